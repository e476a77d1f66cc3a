"""Debian packages on a host that may have booted a minute ago."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from zarpar_host import items
from zarpar_host.context import Context, Item
from zarpar_host.errors import HostError
from zarpar_host.run import Completed, run

LOCK_WAIT = 600
LISTS_MAX_AGE = 24 * 3600
APT_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
}
APT_OPTIONS = [
    "-q",
    "-y",
    "--no-install-recommends",
    f"-oDPkg::Lock::Timeout={LOCK_WAIT}",
    "-oDpkg::Options::=--force-confdef",
    "-oDpkg::Options::=--force-confold",
    "-oAcquire::Retries=3",
    "-oAcquire::http::Timeout=30",
    "-oAPT::Cmd::Pattern-Only=true",  # a mistyped name with a dot is no pattern for a hundred others
    "--no-remove",
]
KNOWN_FAILURES = (
    (
        r"Unable to locate package|has no installation candidate",
        "Debian has no such package here. When an app asks for it, mend its system_packages in apps.yml.",
    ),
    (
        r"Packages need to be removed but remove is disabled",
        "Another package would have to go, which Zarpar does not decide: remove it by hand, or ask for another one.",
    ),
)


def missing(names: list[str]) -> list[str]:
    """Those of the packages that are not installed, asked of dpkg in one call.

    A name that is not a package's own may be provided by one: Debian 13 has libglib2.0-0 as libglib2.0-0t64.
    """
    if not names:
        return []
    done = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], check=False)
    installed = {line.split()[0] for line in done.out.splitlines() if line.endswith(" installed")}
    absent = [name for name in names if name not in installed]
    if not absent:
        return []
    done = run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Provides}\n"], check=False)
    lines = (line.removeprefix("installed ") for line in done.out.splitlines() if line.startswith("installed "))
    provided = {part.split()[0] for line in lines for part in line.split(",") if part.strip()}
    return [name for name in absent if name not in provided]


def packages(context: Context, item: Item) -> bool:
    """These Debian packages, installed without their recommendations; apt runs only when one is missing."""
    absent = missing(list(item["packages"]))
    if absent and not context.check:
        for other in context.ahead:
            if "packages" not in other:
                (items.file if "file" in other else items.directory)(context, other)
        names = [name for other in context.ahead for name in other.get("packages", [])]
        context.diff = None  # of those files: their own manifest tells of them
        install(list(dict.fromkeys([*absent, *missing(names)])))
    return bool(absent)


def install(names: list[str]) -> None:
    """Install packages, finishing what an interrupted dpkg left and waiting for other users of apt."""
    if any(Path("/var/lib/dpkg/updates").iterdir()):
        run(
            ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"],
            env=APT_ENVIRONMENT,
            timeout=900,
        )
    if _lists_are_old():
        _apt("update")
    done = _apt("install", *names, check=False)
    if done.code != 0:  # the lists can be older than the archive: once more with new ones
        _apt("update")
        done = _apt("install", *names, check=False)
    if done.code != 0:
        hint = next((hint for words, hint in KNOWN_FAILURES if re.search(words, done.err)), "")
        hint = hint or "Look at the host's sources (/etc/apt/sources.list.d) and its network, then run again."
        raise HostError(f"apt-get install {' '.join(names)} failed", detail=done.tail, hint=hint)


def _lists_are_old() -> bool:
    lists = list(Path("/var/lib/apt/lists").glob("*_Packages*"))
    if not lists:
        return True
    age = time.time() - max(path.stat().st_mtime for path in lists)
    return not 0 <= age < LISTS_MAX_AGE


def _apt(verb: str, *names: str, check: bool = True) -> Completed:
    """apt-get, with patience for the lock of the lists, which apt's own waiting does not cover."""
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        done = run(["apt-get", *APT_OPTIONS, verb, *names], env=APT_ENVIRONMENT, timeout=1800, check=False)
        locked = done.code != 0 and "Could not get lock" in done.err
        if locked and time.monotonic() < deadline:
            time.sleep(3)
            continue
        if check and done.code != 0:
            raise HostError(f"apt-get {verb} failed", detail=done.tail)
        return done


def wait_for_boot(context: Context, _item: Item) -> bool:
    """A fresh VPS is still busy with its own first-boot work: wait for cloud-init, at most ten minutes."""
    if not context.check and shutil.which("cloud-init") is not None:
        run(["cloud-init", "status", "--wait"], check=False, timeout=LOCK_WAIT)
    return False
