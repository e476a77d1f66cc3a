"""Manifest items: files, links, directories, accounts, commands and units.

Every function takes (context, item) and returns whether it changed something. The item's keys are documented
in docs/MANIFEST.md; an unknown key is refused there, on the controller.
"""

from __future__ import annotations

import glob
import grp
import pwd
import stat
from pathlib import Path

from zarpar_host.context import Context, Item
from zarpar_host.errors import HostError
from zarpar_host.files import make_directory, replace_link, write_atomic
from zarpar_host.run import Completed, run

DIFF_LIMIT = 100_000


def _uid(context: Context, name: str) -> int:
    return _id(context, name, lambda: pwd.getpwnam(name).pw_uid)


def _gid(context: Context, name: str) -> int:
    return _id(context, name, lambda: grp.getgrnam(name).gr_gid)


def _id(context: Context, name: str, look: object) -> int:
    try:
        return int(look())  # type: ignore[operator]
    except KeyError:
        if context.check:  # a check of a bare host: the account would have been made by then
            return -1
        raise HostError(f"there is no user or group named {name}") from None


def _owner(context: Context, item: Item) -> tuple[int, int]:
    owner = item.get("owner", "root")
    return _uid(context, owner), _gid(context, item.get("group", "root"))


def _mode(item: Item, default: str) -> int:
    return int(str(item.get("mode", default)), 8)


def _attributes_differ(path: Path, mode: int, uid: int, gid: int) -> bool:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode) != mode or status.st_uid != uid or status.st_gid != gid


def directory(context: Context, item: Item) -> bool:
    """A directory with its owner and mode; missing parents are made as root, 0755."""
    path = Path(item["directory"])
    uid, gid = _owner(context, item)
    mode = _mode(item, "0755")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise HostError("something else than a directory is at this path")
    if path.is_dir() and not _attributes_differ(path, mode, uid, gid):
        return False
    if not context.check:
        make_directory(path, mode, uid, gid)
    return True


def file(context: Context, item: Item) -> bool:
    """A file with this content, owner and mode. create_only: leave an existing one alone."""
    path = Path(item["file"])
    if item.get("create_only") and path.is_file():
        return False
    uid, gid = _owner(context, item)
    mode = _mode(item, "0644")
    data = item["content"].encode()
    if path.is_dir():
        raise HostError("a directory is at this path")
    regular = path.is_file() and not path.is_symlink()
    before = path.read_bytes() if regular else None
    if before == data and not _attributes_differ(path, mode, uid, gid):
        return False
    secret = bool(item.get("secret"))
    if before != data:
        context.diff = {
            "before": _shown(before or b"", secret),
            "after": _shown(data, secret),
        }
    context.will_change(path)
    if not context.check:
        if not path.parent.is_dir():
            raise HostError(f"the directory {path.parent} does not exist")
        write_atomic(path, data, mode=mode, uid=uid, gid=gid)
    return True


def _shown(data: bytes, secret: bool) -> str:
    if secret:
        return "(secret)\n" if data else ""
    if len(data) > DIFF_LIMIT or b"\0" in data:
        return f"({len(data)} bytes)\n"
    return data.decode(errors="replace")


def link(context: Context, item: Item) -> bool:
    """A symbolic link with this target."""
    path, target = Path(item["link"]), item["to"]
    before = str(path.readlink()) if path.is_symlink() else ""
    if before == target:
        return False
    if path.is_dir() and not path.is_symlink():
        raise HostError("a directory is at this path")
    context.diff = {"before": before and f"{before}\n", "after": f"{target}\n"}
    context.will_change(path)
    if not context.check:
        replace_link(path, target)
    return True


def absent(context: Context, item: Item) -> bool:
    """Nothing at this path: a file, a link or an empty directory goes."""
    path = Path(item["absent"])
    if not path.is_symlink() and not path.exists():
        return False
    if path.is_dir() and not path.is_symlink():
        if not context.check:
            path.rmdir()
        return True
    context.will_change(path)
    if not context.check:
        path.unlink()
    return True


def absent_others(context: Context, item: Item) -> bool:
    """Files matching a glob that are not in `keep` go."""
    keep = set(item.get("keep", []))
    surplus = [name for name in sorted(glob.glob(item["absent_others"])) if name not in keep]  # noqa: PTH207
    for name in surplus:
        absent(context, {"absent": name})
    return bool(surplus)


def group(context: Context, item: Item) -> bool:
    """A group; system: true takes its number from the system's range."""
    name = item["group"]
    try:
        grp.getgrnam(name)
        return False
    except KeyError:
        pass
    if not context.check:
        run(["groupadd", *(["--system"] if item.get("system") else []), "--", name])
    return True


def user(context: Context, item: Item) -> bool:
    """A user. `groups` are added and never taken away; an existing user keeps its shell and home.

    A user of the same name with another home directory is somebody else's: refused.
    """
    name, home = item["user"], item.get("home")
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        if not context.check:
            options = ["--system"] if item.get("system") else ["--create-home"]
            options += ["--gid", item["group"]] if item.get("group") else []
            options += ["--home-dir", home] if home else []
            run(["useradd", *options, "--shell", item.get("shell", "/usr/sbin/nologin"), "--", name])
        changed = True
    else:
        if home and account.pw_dir != home:
            raise HostError(
                f"a user {name} with the home {account.pw_dir} exists already, and is not Zarpar's",
                hint="Rename the app, or remove that user from the host.",
                kind="bad_data",
            )
        changed = False
    members = {entry.gr_name for entry in grp.getgrall() if name in entry.gr_mem}
    missing = [wanted for wanted in item.get("groups", []) if wanted not in members]
    if missing and not context.check:
        run(["usermod", "--append", "--groups", ",".join(missing), "--", name])
    return changed or bool(missing)


def command(context: Context, item: Item) -> bool:
    """Run argv unless `creates` exists or `unless` (which must only read) ends with 0.

    With neither, on_change_of decides: the command runs when this run changed one of those paths.
    """
    if "creates" in item and Path(item["creates"]).exists():
        return False
    if "unless" in item and run(item["unless"], check=False, timeout=60).code == 0:
        return False
    if "on_change_of" in item and not context.changed_any(item["on_change_of"]):
        return False
    if not context.check:
        run(item["command"], timeout=float(item.get("timeout", 120)), env=item.get("environment"))
    return True


def validate(context: Context, item: Item) -> bool:
    """Let a program check the files that this run changed; its refusal fails (and undoes) the manifest."""
    if context.changed_paths and not context.check:
        done = run(item["validate"], check=False)
        if done.code != 0:
            raise HostError("refused the new configuration", detail=done.tail)
    return False


def unit(context: Context, item: Item) -> bool:
    """A systemd unit, enabled and started as asked; it takes up changed files by reload or restart."""
    name = item["unit"]
    state, enabled = item.get("state", "started"), item.get("enabled", True)
    shown = _show(name)
    if shown.get("NeedDaemonReload") == "yes" or context.changed_any(["/etc/systemd/system/*"]):
        _systemctl(context, "daemon-reload")
        shown = shown if context.check else _show(name)
    changed = False
    if enabled is not None and (shown.get("UnitFileState") in ("enabled", "enabled-runtime")) != enabled:
        _systemctl(context, "enable" if enabled else "disable", name)
        changed = True
    active = shown.get("ActiveState") in ("active", "activating", "reloading")
    if state == "stopped" and active:
        _systemctl(context, "stop", name)
        return True
    if state == "started" and not active:
        _act(context, name, "start")
        return True
    if active and context.changed_any(item.get("restart_on", [])):
        _act(context, name, "restart")
        return True
    if active and context.changed_any(item.get("reload_on", [])):
        _act(context, name, "reload")
        return True
    return changed


def _act(context: Context, name: str, verb: str) -> None:
    context.touched_units[name] = verb
    _systemctl(context, verb, name)


def _systemctl(context: Context, *words: str) -> None:
    if context.check:
        return
    done = run(["systemctl", *words], check=False, timeout=180)
    if done.code != 0:
        journal = _journal(words[-1]) if len(words) > 1 else ""
        raise HostError(f"systemctl {' '.join(words)} failed", detail=f"{done.tail}\n{journal}".strip())


def _journal(name: str) -> str:
    return run(["journalctl", "--no-pager", "-o", "cat", "-n", "20", "-u", name], check=False).tail


def _show(name: str) -> dict[str, str]:
    properties = "LoadState,ActiveState,UnitFileState,NeedDaemonReload"
    done: Completed = run(["systemctl", "show", "-p", properties, "--", name], check=False)
    return dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)


def settle_units(touched: dict[str, str]) -> None:
    """After an undo: units that took up files of this run take up what is there again. Best effort."""
    if touched:
        run(["systemctl", "daemon-reload"], check=False)
    for name, verb in touched.items():
        run(["systemctl", "reload" if verb == "reload" else "restart", name], check=False, timeout=180)
