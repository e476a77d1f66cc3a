"""What the example app becomes for these tests: routes that last, and the ways to be ill that a commit can choose."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from support.site import APP
from support.world import App

BLUEPRINT = '''"""Only for tests: pages that last, and an app that is ill on demand. trial.json of the tree says how."""

import fcntl
import json
import os
import sys
import threading
import time
from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify, request

blueprint = Blueprint("trial", __name__)
PLAN = json.loads((Path(__file__).resolve().parents[1] / "trial.json").read_text())


def age() -> float:
    """Seconds since the first of this slot's workers was loaded: the others are as ill and as well as it is."""
    with open("/tmp/trial-start", "a+") as begun:
        fcntl.flock(begun, fcntl.LOCK_EX)
        begun.seek(0)
        start = begun.read()
        if not start:
            start = str(time.monotonic())
            begun.write(start)
    return time.monotonic() - float(start)


@blueprint.get("/slow")
def slow() -> Response:
    time.sleep(float(request.args["seconds"]))
    return jsonify(release=current_app.config["RELEASE_ID"])


@blueprint.before_app_request
def be_as_planned() -> Response | None:
    """The health page is as slow, late or wrong as the plan says."""
    if request.path != "/health":
        return None
    time.sleep(PLAN.get("health_seconds", 0))
    if age() < PLAN.get("ill_until", 0) or (PLAN.get("ill_by_file") and marked()):
        current_app.logger.error("trial: not well at %.1f s", age())
        return Response("not well", 503)
    if PLAN.get("health_body"):
        return Response(PLAN["health_body"], 200)
    return None


def marked() -> bool:
    """A release that allows it can be made ill on one host, by a file."""
    return Path(os.environ["ZARPAR_SHARED"], "ill").exists()


if "gunicorn" in sys.argv[0]:
    age()
if "die_after" in PLAN and "gunicorn" in sys.argv[0]:  # code 3 makes gunicorn itself give up
    threading.Timer(PLAN["die_after"], os._exit, [3]).start()
'''
MIGRATE = '''"""Only for tests: a migration that can be caught in the act."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

plan = json.loads(Path("trial.json").read_text())
mark = Path(os.environ["ZARPAR_SHARED"], "migrating")
mark.touch()
time.sleep(plan.get("migrate_seconds", 0))
code = subprocess.run(["flask", "--app", "wsgi", "db", "upgrade"], check=False).returncode
mark.unlink()
sys.exit(code)
'''
BUILD = '''"""Only for tests: a build that can be caught in the act."""

import json
import time
from pathlib import Path

plan = json.loads(Path("trial.json").read_text())
mark = Path("building")
mark.touch()
end = time.monotonic() + plan.get("build_seconds", 0)
while time.monotonic() < end and mark.exists():  # a test may take the mark away
    time.sleep(0.05)
if plan.get("build_writes"):
    Path("built").write_bytes(bytes(2**20))
mark.unlink(missing_ok=True)
'''
# On a host: finds the marks of builds that go on; makes a release ill that allows it (ill_by_file).
BUILDING = ("find", f"/srv/{APP}/releases", "-path", "*/src/building")
ILL = f"/srv/{APP}/shared/ill"
KEYS: dict[str, Any] = {
    "migrate": "python trial_migrate.py",
    "build": ["python trial_build.py"],
    "health": {"path": "/health", "timeout": 60, "body": '"status":"ok"'},
    "gunicorn": {"workers": 3, "threads": 16},
}


def make_trial(app: App) -> str:
    """Commit what makes the example a trial app; return the commit."""
    app.edit("notes/__init__.py", "from . import health, web\n", "from . import health, trial, web\n")
    app.edit(
        "notes/__init__.py",
        "    app.register_blueprint(web",
        "    app.register_blueprint(trial.blueprint)\n    app.register_blueprint(web",
    )
    files = {"notes/trial.py": BLUEPRINT, "trial_migrate.py": MIGRATE, "trial_build.py": BUILD, "trial.json": "{}\n"}
    return app.commit("A trial app", files)


def plan(app: App, subject: str, **settings: Any) -> str:
    """Commit a plan for the trial app."""
    return app.commit(subject, {"trial.json": json.dumps(settings) + "\n"})


def migration(app: App, body: str = "", *, number: str = "") -> str:
    """Write the next migration, which adds a column unless a body says otherwise; return its revision."""
    folder = app.folder / "migrations" / "versions"
    latest = max(path.name[:4] for path in folder.glob("[0-9]*.py"))
    revision = number or f"{int(latest) + 1:04}"
    body = body or f'op.add_column("note", sa.Column("extra_{revision}", sa.Integer(), nullable=True))'
    indented = body.replace("\n", "\n    ")
    (folder / f"{revision}_trial.py").write_text(
        f'''"""Only for tests."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{latest}"


def upgrade() -> None:
    {indented}
'''
    )
    return revision


def ballast(app: App, size: int) -> None:
    """A file that does not compress, so that sending the archive takes a moment."""
    Path(app.folder, "ballast").write_bytes(os.urandom(size))
