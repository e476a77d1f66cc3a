"""The few facts about a host that templates and checks need; read in milliseconds, nothing is run."""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

from zarpar_host.errors import HostError

SUPPORTED = {("debian", "12"): "15", ("debian", "13"): "17"}


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The keys of os-release, quotes removed."""
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {key: value.strip().strip("\"'") for key, value in pairs}


def _meminfo() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}


def gather() -> dict[str, Any]:
    """All facts. Sizes are in MB; `postgres_version` is what this release of Debian ships."""
    release = os_release()
    distribution, version = release.get("ID", ""), release.get("VERSION_ID", "")
    memory = _meminfo()
    disk = os.statvfs("/")
    return {
        "distribution": distribution,
        "version": int(version.split(".")[0] or 0) if version[:1].isdigit() else 0,
        "codename": release.get("VERSION_CODENAME", ""),
        "arch": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mb": memory.get("MemTotal", 0) // 1024,
        "swap_mb": memory.get("SwapTotal", 0) // 1024,
        "disk_free_mb": disk.f_bavail * disk.f_frsize // 2**20,
        "inodes_free": disk.f_favail,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "python_full": ".".join(map(str, sys.version_info[:3])),
        "hostname": socket.gethostname(),
        "container": Path("/run/systemd/container").exists(),
        "ipv6": Path("/proc/net/if_inet6").exists(),
        "postgres_version": SUPPORTED.get((distribution, version), ""),
    }


def require_supported() -> None:
    """Raise HostError unless this is a Debian that is tested, run by systemd."""
    release = os_release()
    name = release.get("PRETTY_NAME", "an unknown system")
    if (release.get("ID", ""), release.get("VERSION_ID", "")) not in SUPPORTED:
        raise HostError(
            f"unsupported system: {name}",
            hint="Zarpar is tested on Debian 12 and Debian 13: reinstall the server with one of them.",
            kind="unsupported",
        )
    if not Path("/run/systemd/system").is_dir():
        raise HostError(f"{name} does not run systemd", kind="unsupported")
