"""Fujin, the nearest rival: releases only, behind Caddy. What its own bootstrap fetches is put in place by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.contenders.base import APP, BENCH, VALUES, Contender, render
from bench.contenders.zarpar import BIN
from bench.lab import Lab, Line

FILES = BENCH / "fujin"
# The app as a package: Fujin installs a wheel. The release is known from the code, because Fujin's rollback goes back
# in code only, not in the environment.
PACKAGE = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.version]
path = "notes/release.py"

[tool.hatch.build.targets.wheel]
packages = ["notes", "migrations"]
artifacts = ["notes/release.py"]

[tool.hatch.build.targets.wheel.force-include]
"wsgi.py" = "wsgi.py"
"""
ENTRY = """
import os

from notes.release import COMMIT

os.environ["ZARPAR_RELEASE_ID"] = COMMIT

"""


class Fujin(Contender):
    """`fujin deploy` and `fujin rollback --previous`."""

    name = "fujin"
    verbs = ("release", "rollback")
    first = "release"
    units = (f"{APP}-web.service",)

    def __init__(self, lab: Lab, host: str) -> None:
        super().__init__(lab, host)
        folder = self.app.folder
        project = folder / "pyproject.toml"
        text = project.read_text().replace('version = "1.0.0"', 'dynamic = ["version"]')
        project.write_text(text.replace("[tool.uv]\npackage = false\n", "") + PACKAGE)
        entry = folder / "wsgi.py"
        entry.write_text(entry.read_text().replace("from notes import", ENTRY.lstrip() + "from notes import"))
        (folder / ".gitignore").write_text(
            "dist/\nnotes/release.py\nrequirements.txt\nfujin.toml\n.fujin/\n__pycache__/\n"
        )
        self.app.change_code(0)
        systemd = folder / ".fujin" / "systemd"
        systemd.mkdir(parents=True)
        (systemd / "web.service").write_text((FILES / "web.service").read_text())
        (folder / ".fujin" / "Caddyfile").write_text((FILES / "Caddyfile").read_text())

    def provision(self) -> None:
        self.lab.inside(self.host, "bash", "-s", stdin=(FILES / "provision.sh").read_text())
        render(self.folder / "files")
        self.lab.copy_in(self.folder / "files" / "gunicorn.conf.py", self.host, "/etc/notes/gunicorn.conf.py")
        self.lab.inside(self.host, "chmod", "644", "/etc/notes/gunicorn.conf.py")

    def aim(self, line: Line) -> None:
        version = f"1.0.0+g{self.app.head()}"
        settings = {
            "app": APP,
            "version": version,
            "python_version": "3.13",
            "build_command": f"sh {FILES / 'build.sh'}",
            "installation_mode": "python-package",
            "distfile": f"dist/{APP}-{{version}}-py3-none-any.whl",
            "requirements": "requirements.txt",
        }
        environment = (
            f"SECRET_KEY={VALUES['secret_key']}",
            "TRUSTED_PROXIES=1",
            "SESSION_COOKIE_SECURE=0",
            f"DATABASE_URL=postgresql://{APP}@/{APP}?host=/run/postgresql",
            f"UPLOADS_DIR=/opt/fujin/{APP}/uploads",
        )
        host = {
            "address": line.address,
            "user": "deploy",
            "key_filename": str(line.key),
            "env": "\n".join(environment),
        }
        migrate = f"/opt/fujin/{APP}/.install/.venv/bin/flask --app wsgi db upgrade"
        # Strings of JSON are strings of TOML too.
        text = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        text += ["[hooks]", f"post_install = [{json.dumps(migrate)}]", "[[hosts]]"]
        text += [*(f"{name} = {json.dumps(value)}" for name, value in host.items()), f"port = {line.port}"]
        (self.app.folder / "fujin.toml").write_text("\n".join(text) + "\n")

    def command(self, verb: str) -> Sequence[str]:
        words = ["deploy", "--no-input"] if verb == "release" else ["rollback", "--previous"]
        return [str(BIN / "fujin"), *words]

    @property
    def directory(self) -> Path:
        return self.app.folder

    def changed(self, text: str) -> int | None:  # noqa: ARG002 - it does not say
        return None
