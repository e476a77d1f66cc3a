"""Releases on a host: prepared beside the live one, which is not touched, and pruned when they are old."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO

from zarpar_host import envfile, hints, lease, processes, redis, schema, venv
from zarpar_host.archive import unpack
from zarpar_host.errors import HostError
from zarpar_host.files import write_atomic, write_json
from zarpar_host.masking import mask
from zarpar_host.run import PATH, TAIL, run
from zarpar_host.state import (
    PATIENCE,
    SLOTS,
    Places,
    State,
    all_apps,
    deploying,
    load,
    locked,
    now,
    read_history,
    record,
    save,
)

FREE_BYTES = 200 * 2**20
FREE_INODES = 20_000
BUILD_LIMIT = 1800
TOLD = ("commit", "subject", "author", "by")
# What release.json of an older version of this program does not say.
OLD_FACTS: dict[str, Any] = {"schema": {"revisions": [], "tips": []}, "processes": [], "schedules": []}
OLD_SETTINGS = {
    "watch": 30,
    "migration": {"timeout": 3600, "lock_timeout": 5, "statement_timeout": 900, "dump": True},
}


def prepare(request: dict[str, Any], stream: BinaryIO, root: Path = Path("/")) -> dict[str, Any]:
    """Make a release ready to start: its tree, its environment file, its virtual environment, its build commands.

    request: app (normalised, with env), release {id, tree, commit, subject, author, wsgi, worker_class, migrate,
    processes, schedules, by}, wait (seconds, for another deploy to end) and archive {sha256, size}, whose bytes follow
    on the stream. Without an archive the answer is "needed": send it. Running it again is safe at any point: a release
    counts only with its release.json, which is written last. The answer's `notes` are for people.
    """
    app, release = request["app"], request["release"]
    places = Places(app["name"], root)
    if _is_live(places, release["id"]):
        return {"outcome": "unchanged", "changed": False, "well": True}
    well = _serves_now(places)
    lease.lock({**request, "app": app["name"], "by": release["by"], "commit": release["commit"]}, root)
    patience = max(float(request.get("wait") or 0), PATIENCE)
    with deploying(places, release["by"], "prepare", patience):
        lease.hold(places, request)  # nobody renewed it while the last verb of a dead deploy was waited for
        if (places.release(release["id"]) / "release.json").exists():
            _note(places, release, settings_of(places, release["id"])["venv"], 0)
            return {"outcome": "prepared", "changed": False, "well": well}
        if not request.get("archive"):
            return {"outcome": "needed", "changed": False, "well": well}
        started = time.monotonic()
        processes.check(places, release)
        _room(places, int(request["archive"]["size"]))
        archive = places.home / "releases" / ".incoming.tar"
        try:
            _receive(archive, request["archive"], stream)
            built = _build(places, app, release, archive)
        finally:
            archive.unlink(missing_ok=True)
        seconds = round(time.monotonic() - started, 2)
        _note(places, release, built["venv"], seconds)
        record(places, "prepared", release=release["id"], seconds=seconds, **{name: release[name] for name in TOLD})
    return {"outcome": "prepared", "changed": True, "well": well, "notes": built["notes"]}


def _note(places: Places, release: dict[str, Any], environment: str, seconds: float) -> None:
    """Enter a whole release into the state, unless it is there: a cut can come just before this."""
    told = {name: release[name] for name in TOLD}
    facts = {"venv": environment, "migrated": False, "prepared_at": now(), "took": seconds, **told}
    with locked(places, release["by"], "prepare"):
        state = load(places)
        if release["id"] not in state.releases:
            state.note(release["id"], status="prepared", **facts)
            save(places, state)


def _is_live(places: Places, release: str) -> bool:
    state = load(places)
    return state.live is not None and state.live.release == release


def _serves_now(places: Places) -> bool:
    """Whether the live release, if there is one, is healthy: a host that is not is the first to be switched."""
    from zarpar_host import health  # only needed here

    live = load(places).live
    if live is None:
        return False
    settings = settings_of(places, live.release)
    if processes.part(places) == processes.PROCESSES:
        return not processes.units_down(processes.units(places, live.slot, settings))
    return not health.ask_socket(places.socket(live.slot), health.Check.of(settings["app"]["health"]), 3)


def _room(places: Places, size: int) -> None:
    """Refuse, before anything is written, what would fill the disk."""
    disk = os.statvfs(places.home)
    free = disk.f_bavail * disk.f_frsize
    need = FREE_BYTES + 5 * size
    if free < need or (disk.f_files and disk.f_favail < FREE_INODES):
        what = f"{free // 2**20} MB and {disk.f_favail} inodes free"
        raise HostError(
            f"too little room in {places.home}: {what}",
            detail=f"A release needs {need // 2**20} MB and {FREE_INODES} inodes.",
            hint="Free some room (journalctl --vacuum-size=100M; apt-get clean), or lower `keep` of the app.",
            kind="disk",
        )


def _receive(incoming: Path, archive: dict[str, Any], stream: BinaryIO) -> None:
    """Put the archive's bytes into a file of the host, and check their hash."""
    digest = hashlib.sha256()
    left = int(archive["size"])
    descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        while left > 0 and (chunk := stream.read(min(left, 2**20))):
            digest.update(chunk)
            handle.write(chunk)
            left -= len(chunk)
    if left or stream.read(1) or digest.hexdigest() != archive["sha256"]:
        raise HostError("the archive did not arrive as it was sent", hint="Run again.", kind="archive")


def _build(places: Places, app: dict[str, Any], release: dict[str, Any], archive: Path) -> dict[str, Any]:
    folder = places.release(release["id"])
    if folder.exists():
        shutil.rmtree(folder)  # what an interrupted prepare left
    folder.mkdir(mode=0o750)
    tree = folder / "src"
    notes: list[str] = []
    try:
        unpack(archive, tree)
        worker_class = release["worker_class"]
        key = venv.key_of(tree, app["python"], release["tree"], worker_class)
        venv.own(folder, places.app)
        environment_path = venv.ensure(places, tree, app["python"], key, worker_class, notes.append)
        values = environment(places, app, release, environment_path)
        write_atomic(places.environment(release["id"]), envfile.dump(values).encode(), mode=0o600)
        _run_build(places, app, tree, values)
        _check_links(tree)
        compiler = str(environment_path / "bin" / "python")
        run([compiler, "-I", "-S", "-m", "compileall", "-q", str(tree)], check=False, timeout=300)
        processes.write(folder, release)
        if worker_class.startswith(venv.GRANIAN):
            from zarpar_host import serve_granian  # only needed here

            shutil.copy(serve_granian.__file__, folder / "serve_granian.py")
            write_json(folder / serve_granian.SETTINGS, serve_granian.settings(app))
        venv.own(folder, places.app)
        os.sync()
        facts = {"id": release["id"], "venv": key, "wsgi": release["wsgi"], "migrate": release["migrate"]}
        facts |= {kind: release.get(kind, []) for kind in ("processes", "schedules")}
        settings = {name: app[name] for name in ("health", "canonical", "tls", "drain", "keep", "watch", "migration")}
        write_json(folder / "release.json", {**facts, "schema": schema.known(tree), "app": settings})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        places.environment(release["id"]).unlink(missing_ok=True)
        raise
    return {"venv": key, "notes": notes}


def environment(places: Places, app: dict[str, Any], release: dict[str, Any], environment_path: Path) -> dict[str, str]:
    """The whole environment of a release's processes: Zarpar's names first, then the app's own."""
    shared = places.home / "shared"
    values = {
        "ZARPAR_APP": app["name"],
        "ZARPAR_RELEASE_ID": release["id"],
        "ZARPAR_RELEASE": str(places.release(release["id"]) / "src"),
        "ZARPAR_VENV": str(environment_path),
        "ZARPAR_WSGI": release["wsgi"],
        "ZARPAR_WORKER_CLASS": venv.worker(environment_path, release["worker_class"]),
        "ZARPAR_SHARED": str(shared),
        "VIRTUAL_ENV": str(environment_path),
        "PATH": f"{environment_path}/bin:{PATH}",
        "HOME": str(shared),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
    if app["uploads"]:
        values["UPLOADS_DIR"] = str(shared / app["uploads"][0]["path"])
    if app["database_url"]:
        values["DATABASE_URL"] = app["database_url"]
    if app["redis_url"]:
        values["REDIS_URL"] = redis.whole_url(app["name"], app["redis_url"], places.root)
    return {**values, **app["env"]}


def _run_build(places: Places, app: dict[str, Any], tree: Path, values: dict[str, str]) -> None:
    """Run the app's build commands in its tree, as its user, which may write the tree only meanwhile."""
    if not app["build"]:
        return
    run(["chown", "-R", "--no-dereference", f"{places.app}:{places.app}", str(tree)])
    for command in app["build"]:
        command_run(command, places.app, tree, values, BUILD_LIMIT, "build")


def _check_links(tree: Path) -> None:
    """No link leads out of the tree: nginx, which may read every app's files, follows them for static files."""
    root = tree.resolve()
    for folder, folders, names in os.walk(tree):
        for path in (Path(folder) / name for name in [*folders, *names]):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise HostError(f"build: the link {path.relative_to(tree)} leads out of the release", kind="build")


def command_run(command: str, user: str, tree: Path, values: dict[str, str], limit: float, kind: str) -> str:
    """Run one of the app's own commands (split into words, no shell) with its environment; returns its output.

    Its output, in messages too, is without the secrets of that environment.
    """
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise HostError(f"{kind}: {command!r} cannot be split into words: {error}", kind=kind) from error
    program = shutil.which(argv[0], path=values["PATH"]) if argv else None
    if program is None:
        raise HostError(
            f"{kind}: there is no program {argv[0] if argv else ''!r}",
            hint="Is it among the app's dependencies?",
            kind=kind,
        )
    try:
        done = run([program, *argv[1:]], user=user, cwd=tree, env=values, timeout=limit, check=False)
    except HostError as error:
        whole = error.detail if len(error.detail) < TAIL else error.detail.partition("\n")[2]  # no half of a secret
        error.detail = mask(whole, values)
        raise
    masked = mask(done.out + done.err, values)
    said = masked.strip()[-TAIL:]
    if done.code != 0:
        hint = hints.of_build(masked)
        raise HostError(f"{kind}: {command!r} failed with code {done.code}", detail=said, hint=hint, kind=kind)
    return said


def settings_of(places: Places, release: str) -> dict[str, Any]:
    """release.json of a whole release. Raises HostError for one that is not there (any more)."""
    path = places.release(release) / "release.json"
    if "/" in release or release.startswith(".") or not path.exists():
        raise HostError(f"release {release} is not on this host", kind="unknown_release")
    settings: dict[str, Any] = {**OLD_FACTS, **json.loads(path.read_text())}
    settings["app"] = {**OLD_SETTINGS, **settings["app"]}
    return settings


def prune(places: Places, state: State, keep: int) -> list[str]:
    """Remove what is old: never the live, the previous or a slot's release, nor the newest `keep` good or waiting ones.

    Nor one that a process still works in: a worker may take long to end its last task. Order is by sequence; folders
    and environments that no release knows go too.
    """
    good = [name for name in state.newest_first() if state.releases[name]["status"] == "good"]
    waiting = [name for name in state.newest_first() if state.releases[name]["status"] == "prepared"]
    stay = {*good[:keep], *waiting[:keep], state.previous(), *state.newest_first()[:1]}
    stay |= {live.release for live in (state.live, state.pending.origin if state.pending else None) if live}
    stay |= {places.slot_file(slot).readlink().name for slot in SLOTS if places.slot_file(slot).is_symlink()}
    stay |= processes.in_use(places)
    removed = []
    for folder in sorted((places.home / "releases").iterdir()):
        if folder.is_dir() and folder.name not in stay:
            (folder / "release.json").unlink(missing_ok=True)  # first: half a release is none
            shutil.rmtree(folder, ignore_errors=True)
            places.environment(folder.name).unlink(missing_ok=True)
            state.releases.pop(folder.name, None)
            removed.append(folder.name)
    used = {facts.get("venv") for name, facts in state.releases.items() if name in stay}
    for folder in (places.home / "venvs").iterdir():
        if folder.name not in used:
            (folder / venv.COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def status(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """What runs here: per app the live release, its slot and health, the last event; certificates; free disk.

    On a host that runs processes only, an app is healthy when all of them run.
    """
    from zarpar_host import certificates, health  # only needed here

    wanted = set(request.get("apps") or [])
    apps = {}
    for places in all_apps(root):
        if wanted and places.app not in wanted:
            continue
        state = load(places)
        facts: dict[str, Any] = {
            "watched": state.pending is not None,
            "live": None,
            "previous": state.previous(),
            "slots": {},
            "healthy": None,
            "processes": {},
        }
        web = processes.part(places) != processes.PROCESSES
        for slot in SLOTS if web else ():
            shown = run(["systemctl", "is-active", places.unit(slot)], check=False).out.strip()
            facts["slots"][slot] = shown or "unknown"
        if state.live:
            live = state.releases.get(state.live.release, {})
            facts["live"] = {**live, "release": state.live.release, "slot": state.live.slot}
            settings = settings_of(places, state.live.release)
            check = health.Check.of(settings["app"]["health"])
            facts["processes"] = its = processes.status(places, state.live.slot, settings)
            missing = [name for name, count in its.items() if count["running"] != count["wanted"]]
            down = f"not all run: {', '.join(missing)}" if missing else ""
            problem = health.ask_socket(places.socket(state.live.slot), check) if web else down
            facts |= {"healthy": not problem, "problem": problem}
        chain = certificates.LINKS / places.app / "fullchain.pem"
        facts["certificate_days"] = certificates.days_left(chain) if chain.exists() else None
        facts["releases"] = [{"release": name, **state.releases[name]} for name in state.newest_first()]
        events = read_history(places)
        facts["last"] = events[-1] if events else None
        apps[places.app] = facts
    disk = os.statvfs(root)
    return {"apps": apps, "disk_free_mb": disk.f_bavail * disk.f_frsize // 2**20, "changed": False}


def history(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """All events of one app, oldest first."""
    return {"events": read_history(Places(str(request["app"]), root)), "changed": False}
