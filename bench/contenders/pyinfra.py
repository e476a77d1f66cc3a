"""pyinfra with its own operations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.contenders.base import APP, BENCH, DOMAIN, PACKAGES, UV, VALUES, Contender
from bench.contenders.zarpar import BIN
from bench.lab import Line
from bench.process import quiet

POSTGRES = "17"  # Debian 13's
DEPLOYS = {"deploy": ("provision.py", "release.py"), "release": ("release.py",), "rollback": ("rollback.py",)}


class Pyinfra(Contender):
    """`bench/pyinfra/`."""

    name = "pyinfra"

    def aim(self, line: Line) -> None:
        # paramiko knows no HostKeyAlias: the key is listed under the address that it is asked for at.
        known = self.folder / "known_hosts"
        keys = [
            entry for entry in line.known_hosts.read_text().splitlines() if line.home in entry.split()[0].split(",")
        ]
        address = line.home if line.port == 22 else f"[{line.address}]:{line.port}"
        known.write_text("".join(f"{address} {entry.split(maxsplit=1)[1]}\n" for entry in keys))
        # What a person does in one shell line before pyinfra: the archive of the commit.
        commit = self.app.head()
        archive = self.folder / f"{commit}.tar.gz"
        if not archive.exists():
            quiet(["git", "-C", str(self.app.folder), "archive", f"--output={archive}", "HEAD"])
        data = {
            "ssh_hostname": line.address,
            "ssh_port": line.port,
            "ssh_user": "deploy",
            "ssh_key": str(line.key),
            "ssh_known_hosts_file": str(known),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "app": APP,
            "domain": DOMAIN,
            "packages": list(PACKAGES),
            "templates": str(BENCH / "files"),
            "template_values": VALUES,
            "postgres_version": POSTGRES,
            "uv_version": UV,
            "commit": commit,
            "archive": str(archive),
        }
        (self.folder / "inventory.py").write_text(f"web = [({self.host!r}, {data!r})]\n")

    def command(self, verb: str) -> Sequence[str]:
        deploys = [str(BENCH / "pyinfra" / name) for name in DEPLOYS[verb]]
        return [str(BIN / "pyinfra"), "--yes", str(self.folder / "inventory.py"), *deploys]

    def changed(self, text: str) -> int | None:
        """The grand total of its table: operations, changed, unchanged."""
        found = re.search(r"Grand total\D+(\d+)\D+?(\d+|-)\D", text)
        return int(found[2].replace("-", "0")) if found else None
