"""What is found in eight realistic checkouts, and that a deploy would accept what `init` writes for each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from zarpar import config, discover
from zarpar import init as making
from zarpar.errors import BadData

FLASK = """
import os
from flask import Flask

def create_app(settings=None):
    app = Flask(__name__)
    app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
    app.config["MAIL_SERVER"] = os.environ.get("MAIL_SERVER", "localhost")
    app.config["STRIPE_API_KEY"] = os.environ["STRIPE_API_KEY"]

    @app.get("/healthz")
    def healthz():
        return "ok"

    return app
"""
SETTINGS = """
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = [os.environ["DJANGO_ALLOWED_HOSTS"]]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
MEDIA_URL = "media/"
MEDIA_ROOT = os.environ["UPLOADS_DIR"]
"""
MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "bakery.settings")\n'
DJANGO_WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
COMPOSE = """
services:
  web: {build: ., command: python app.py, environment: [DEBUG=1, "DATABASE_URL=postgres://x", SMTP_PASSWORD=x]}
  db: {image: "postgres:16-alpine", volumes: ["data:/var/lib/postgresql/data"]}
  cache: {image: redis:7}
  search: {image: "elasticsearch:8.11.0"}
"""

CHECKOUTS: dict[str, dict[str, str]] = {
    "flask factory": {
        "Procfile": "web: gunicorn --timeout 300 -w 4 'shop:create_app()'\nworker: celery -A shop worker\n",
        "requirements.txt": "flask==3.0.0\ngunicorn==25.1\ncelery==5.4\n",
        "shop/__init__.py": FLASK,
        "shop/static/site.css": "",
    },
    "flask-migrate": {
        "pyproject.toml": '[project]\nname = "Guest Book"\ndependencies = ["flask", "Flask-Migrate>=4", "gunicorn",'
        ' "psycopg2-binary"]\n',
        "uv.lock": "version = 1\n",
        "wsgi.py": "from book import create_app\napp = create_app()\n",
        "book/__init__.py": FLASK,
        "migrations/env.py": "",
        "migrations/alembic.ini": "",
    },
    "fastapi": {
        "pyproject.toml": '[project]\nname = "api"\nrequires-python = ">=3.12"\n'
        'dependencies = ["fastapi", "uvicorn[standard]", "gunicorn", "asyncpg"]\n',
        "uv.lock": "version = 1\n",
        "app/main.py": "from fastapi import FastAPI\nfrom fastapi.staticfiles import StaticFiles\n"
        'app = FastAPI()\napp.mount("/assets", StaticFiles(directory="app/assets"), name="assets")\n'
        '@app.get("/health")\nasync def health():\n    return {}\n',
        "app/assets/site.css": "",
        "alembic.ini": "",
    },
    "django": {
        "manage.py": MANAGE,
        "requirements.txt": "Django==5.1\ngunicorn==25.1\npsycopg[binary]==3.2.1\n",
        "bakery/__init__.py": "",
        "bakery/settings.py": SETTINGS,
        "bakery/wsgi.py": DJANGO_WSGI,
        "bakery/urls.py": 'urlpatterns = [path("up/", lambda request: None)]\n',
        "app.json": json.dumps({
            "env": {"DJANGO_SECRET_KEY": {"generator": "secret"}, "SITE_NAME": "The {{ bakery }}"},
            "addons": ["heroku-postgresql:mini", "papertrail"],
        }),
    },
    "requirements only": {
        "requirements.txt": "-r base.txt\ngunicorn\n",
        "base.txt": "flask\n",
        "app.py": "from flask import Flask\napp = Flask(__name__)\n",
        "static/site.css": "",
    },
    "poetry": {
        "pyproject.toml": '[tool.poetry]\nname = "till"\n[tool.poetry.dependencies]\npython = "^3.10"\n'
        'quart = "*"\ngunicorn = "*"\nuvicorn = "*"\n',
        "poetry.lock": "",
        "src/till/__init__.py": "",
        "src/till/app.py": "from quart import Quart\napp = Quart(__name__)\n",
    },
    "python version": {
        ".python-version": "3.12.4\n",
        "requirements.txt": "flask==3.0\ngunicorn==25.1\n",
        "main.py": "from flask import Flask\napplication = Flask(__name__, static_folder=None)\n",
        "render.yaml": "services:\n- type: web\n  runtime: python\n  name: x\n"
        "  buildCommand: pip install -r requirements.txt && python make_index.py > index.txt\n"
        "  startCommand: gunicorn main:application --threads 8\n  preDeployCommand: FLASK_APP=main flask seed\n"
        "  healthCheckPath: /status\n  envVars:\n  - {key: MODE, value: live}\n"
        "  - {key: SESSION_SALT, generateValue: true}\n  - {key: API_TOKEN, sync: false}\n",
    },
    "subfolder": {
        "README.md": "",
        "frontend/package.json": "{}",
        "backend/requirements.txt": "flask==3.0\ngunicorn==25.1\n",
        "backend/wsgi.py": "from flask import Flask\napp = Flask(__name__)\n",
    },
    "docker-compose": {
        "docker-compose.yml": COMPOSE,
        "Dockerfile": "FROM python:3.12\n",
        "requirements.txt": "flask==3.0\ngunicorn==25.1\n",
        "app.py": "from flask import Flask\napp = Flask(__name__)\n",
    },
}  # fmt: skip

EXPECTED: dict[str, dict[str, Any]] = {
    "flask factory": {
        "wsgi": "shop:create_app()",
        "redis": "broker",
        "gunicorn": {"timeout": 300},
        "health": {"path": "/healthz"},
        "static": {"/static/": "shop/static"},
    },
    "flask-migrate": {
        "wsgi": "wsgi:app",
        "database": "postgres",
        "migrate": "flask --app wsgi:app db upgrade",
        "health": {"path": "/healthz"},
    },
    "fastapi": {
        "wsgi": "app.main:app",
        "database": "postgres",
        "migrate": "alembic upgrade head",
        "health": {"path": "/health"},
        "static": {"/assets/": "app/assets"},
        "gunicorn": {"worker_class": "uvicorn.workers.UvicornWorker"},
    },
    "django": {
        "wsgi": "bakery.wsgi:application",
        "database": "postgres",
        "migrate": "python manage.py migrate --noinput",
        "build": ["python manage.py collectstatic --noinput"],
        "health": {"path": "/up/"},
        "static": {"/static/": "staticfiles"},
        "uploads": {"/media/": "media"},
    },
    "requirements only": {"wsgi": "app:app", "health": {"path": "/"}, "static": {"/static/": "static"}},
    "poetry": {
        "wsgi": "till.app:app",
        "health": {"path": "/"},
        "gunicorn": {"worker_class": "uvicorn.workers.UvicornWorker"},
    },
    "python version": {
        "wsgi": "main:application",
        "migrate": "sh -c 'FLASK_APP=main flask seed'",
        "build": ["sh -c 'python make_index.py > index.txt'"],
        "health": {"path": "/status"},
        "gunicorn": {"threads": 8},
    },
    "subfolder": {"wsgi": "wsgi:app", "health": {"path": "/"}},
    "docker-compose": {"wsgi": "app:app", "database": "postgres", "redis": "cache", "health": {"path": "/"}},
}


def checkout(folder: Path, files: dict[str, str]) -> Path:
    """Write a checkout; the name of its folder is the app's, unless it says another."""
    for name, text in {**files, ".git/HEAD": "ref: refs/heads/main\n"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def found(tmp_path: Path, request: pytest.FixtureRequest) -> discover.Findings:
    return discover.discover(checkout(tmp_path / "My_Shop.git", CHECKOUTS[request.param]))


class _Unsafe(yaml.SafeLoader):
    """Reads !unsafe as Ansible does: as a text."""


_Unsafe.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


@pytest.mark.parametrize(("found", "keys"), EXPECTED.items(), indirect=["found"], ids=list(EXPECTED))
def test_keys(found: discover.Findings, keys: dict[str, Any]) -> None:
    assert found.keys == keys
    assert set(found.why) >= set(keys)


@pytest.mark.parametrize("found", CHECKOUTS, indirect=True)
def test_a_deploy_accepts_what_init_writes(found: discover.Findings, tmp_path: Path) -> None:
    wanted = making.Wanted("prod", "203.0.113.10", "shop.example.com")
    written = making.texts(found, wanted, tmp_path / "inventories" / "prod")
    said = yaml.load(written[making.APPS], Loader=_Unsafe)  # noqa: S506 - it is a SafeLoader
    assert list(said) == ["apps"]
    app = config.load_apps(said["apps"])[found.name]
    assert app.domains == ["shop.example.com"]
    assert (tmp_path / "inventories" / "prod" / app.source.path).resolve() == found.folder.resolve()
    hosts = yaml.safe_load(written["hosts.yml"])["all"]
    assert hosts["children"]["web"]["hosts"]["web1"]["ansible_host"] == "203.0.113.10"
    assert {name: app.model_dump(mode="json")[name] for name in ("wsgi", "static")} == {
        "wsgi": found.keys["wsgi"],
        "static": found.keys.get("static", {}),
    }


@pytest.mark.parametrize("found", ["flask factory"], indirect=True)
def test_secrets_are_generated_and_what_nobody_knows_is_left_open(found: discover.Findings, tmp_path: Path) -> None:
    assert found.secrets == {"SECRET_KEY": ""}
    assert list(found.unknown) == ["STRIPE_API_KEY"]
    text = making.texts(found, making.Wanted("prod", "h", "shop.example.com"), tmp_path)[making.APPS]
    assert '      # STRIPE_API_KEY: "{{ vault_my_shop_git_stripe_api_key }}"  # shop/__init__.py:9\n' in text
    vault = yaml.safe_load(making.vault_text(found))
    assert len(vault["vault_my_shop_git_secret_key"]) >= 48
    assert vault != yaml.safe_load(making.vault_text(found))


@pytest.mark.parametrize("found", ["django"], indirect=True)
def test_django_gets_its_own_names(found: discover.Findings, tmp_path: Path) -> None:
    text = making.texts(found, making.Wanted("prod", "h", "bakery.example.com"), tmp_path)[making.APPS]
    assert "DJANGO_ALLOWED_HOSTS: bakery.example.com\n" in text
    assert 'SITE_NAME: !unsafe "The {{ bakery }}"\n' in text, "a user's value is data, never Jinja"
    assert list(found.secrets) == ["DJANGO_SECRET_KEY"]
    assert "app.json: the add-on papertrail" in found.left
    assert not found.unknown


@pytest.mark.parametrize("found", ["docker-compose"], indirect=True)
def test_what_cannot_be_carried_over_is_said(found: discover.Findings) -> None:
    said = "\n".join(found.left)
    for word in ("search (elasticsearch:8.11.0)", "the command of web", "Dockerfile"):
        assert word in said
    assert "SMTP_PASSWORD" in found.unknown
    assert "DATABASE_URL" not in found.unknown


def test_workers_of_other_platforms_are_processes(tmp_path: Path) -> None:
    """But a Procfile's, which run by default, are not written again."""
    files = {
        "app.py": "",
        "render.yaml": "services: [{type: worker, name: mail er, startCommand: celery -A app worker},"
        " {type: cron, name: nightly, schedule: 0 3 * * *, startCommand: flask cleanup},"
        ' {type: worker, name: two, startCommand: "celery -A app worker\\nbeat: x"}]\n',
        "compose.yaml": "services: {beat: {build: ., command: [celery, -A, my app, beat]}}\n",
    }
    found = discover.discover(checkout(tmp_path / "one", files))
    assert found.keys["processes"] == {"mail-er": {"command": "celery -A app worker"}}
    said = "\n".join(found.left)
    for word in ("the command of two", "the cron job nightly (0 3 * * *)"):
        assert word in said
    del files["render.yaml"]
    found = discover.discover(checkout(tmp_path / "two", files))
    assert found.keys["processes"] == {"beat": {"command": "celery -A 'my app' beat"}}
    app = {"domains": ["a.example.com"], "source": {"path": "."}, "processes": found.keys["processes"]}
    config.load_apps({"a": app})
    files["Procfile"] = "web: gunicorn app:app\nworker: celery -A app worker\n"
    found = discover.discover(checkout(tmp_path / "three", files))
    assert "processes" not in found.keys
    assert not any("worker" in text for text in found.left)


@pytest.mark.parametrize("found", ["python version"], indirect=True)
def test_render(found: discover.Findings) -> None:
    assert found.env == {"MODE": "live"}
    assert found.secrets == {"SECRET_KEY": "", "SESSION_SALT": ""}
    assert found.unknown == {"API_TOKEN": "render.yaml"}


@pytest.mark.parametrize("found", ["poetry"], indirect=True)
def test_a_src_folder_is_found_by_python(found: discover.Findings) -> None:
    assert found.env == {"PYTHONPATH": "src"}


@pytest.mark.parametrize("found", ["subfolder"], indirect=True)
def test_the_app_of_a_subfolder(found: discover.Findings) -> None:
    assert (found.folder.name, found.name) == ("backend", "backend")


def test_the_top_of_the_checkout_tells_of_the_app_below(tmp_path: Path) -> None:
    service = "{type: web, rootDir: api, envVars: [{key: MODE, value: x}]}"
    files = {"docker-compose.yml": COMPOSE, "render.yaml": f"services: [{service}]\n"}
    files |= {"api/requirements.txt": "", "web/package.json": "", "docs/app.py": ""}
    found = discover.discover(checkout(tmp_path / "x", files))
    assert (found.folder.name, found.env, found.keys["database"]) == ("api", {"MODE": "x"}, "postgres")


def test_a_command_that_changes_its_folder_is_told_of(tmp_path: Path) -> None:
    found = discover.discover(checkout(tmp_path / "x", {"Procfile": "web: gunicorn --chdir api app:app\n"}))
    assert any("zarpar init api" in text for text in found.left)


def test_typed_reads_of_the_environment(tmp_path: Path) -> None:
    files = {"Procfile": "web: gunicorn a:b\n", "s.py": 'X = env.list("HOSTS_TO_ASK")\nY = env.bool("DEBUG", False)\n'}
    assert list(discover.discover(checkout(tmp_path / "x", files)).unknown) == ["HOSTS_TO_ASK"]


def test_the_example_app_is_found_whole() -> None:
    """As a deploy needs it: inventories/lab describes the same app by hand."""
    folder = Path(__file__).resolve().parents[2] / "examples" / "notes"
    lab = yaml.safe_load((folder / "../../inventories/lab/group_vars/all/apps.yml").read_text())["apps"]["notes"]
    found = discover.discover(folder)
    for key in ("database", "migrate", "health", "static", "uploads"):
        assert found.keys[key] == lab[key]
    assert found.secrets == {"SECRET_KEY": ""}


@pytest.mark.parametrize("found", ["requirements only"], indirect=True)
def test_unpinned_dependencies_are_warned_of(found: discover.Findings) -> None:
    assert any("requirements.txt does not pin" in text for text in found.warnings)


def test_without_gunicorn_there_is_a_warning(tmp_path: Path) -> None:
    found = discover.discover(checkout(tmp_path / "x", {"requirements.txt": "flask==3\n", "app.py": "app = 1\n"}))
    assert any(text.startswith("gunicorn: not among") for text in found.warnings)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"README.md": ""}, "does not look like a Python web app"),
        ({"a/Procfile": "", "b/Procfile": ""}, "several apps: a, b"),
        ({"pyproject.toml": "[project"}, "pyproject.toml cannot be read"),
        ({"Procfile": "", "render.yaml": "a: [b"}, "render.yaml cannot be read"),
        ({"Procfile": "", "app.json": "{"}, "app.json cannot be read"),
    ],
)
def test_what_is_no_app(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(BadData, match=words):
        discover.discover(checkout(tmp_path / "x", files))


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"requirements.txt": "flask-redis\n"}, "cache"),
        ({"requirements.txt": "redis\nrq\n"}, "broker"),
        ({"requirements.txt": "huey[redis]==2.5\n"}, "broker"),
        ({"requirements.txt": "", "app.json": '{"addons": ["heroku-redis:mini"]}'}, "cache"),
        ({"requirements.txt": "celery", "app.json": '{"addons": [{"plan": "rediscloud:30"}]}'}, "broker"),
        ({"requirements.txt": "", "render.yaml": "services: [{type: keyvalue, name: x}]\n"}, "cache"),
        ({"requirements.txt": "", "compose.yaml": "services: {x: {image: 'valkey/valkey:8'}}\n"}, "cache"),
        ({"requirements.txt": "", "app.py": "import os\nos.environ['REDIS_URL']\n"}, "cache"),
        ({"requirements.txt": "", "app.py": "import os\nos.environ.get('REDIS_URL')\n"}, None),
        ({"requirements.txt": "redistribute\n"}, None),
    ],
)
def test_redis(tmp_path: Path, files: dict[str, str], kind: str | None) -> None:
    found = discover.discover(checkout(tmp_path / "x", files))
    assert found.keys.get("redis") == kind
    assert not any("Redis" in text for text in found.left)
    assert "REDIS_URL" not in found.unknown


def test_code_that_cannot_be_parsed_is_passed_over(tmp_path: Path) -> None:
    files = {"requirements.txt": "", "app.py": "app = Flask(__name__)\n", "old.py": "print 'x'\n", "nul.py": "\0"}
    assert discover.discover(checkout(tmp_path / "x", files)).keys["wsgi"] == "app:app"


@pytest.mark.parametrize(
    ("text", "name"),
    [("My_Shop", "my-shop"), ("redis", "redis-app"), ("3d", "app-3d"), ("", "app"), ("x" * 50, "x" * 26)],
)
def test_names(text: str, name: str) -> None:
    assert discover.app_name(text) == name
    assert config.name_problem(name) == ""


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("gunicorn wsgi:app", {"wsgi": "wsgi:app"}),
        ("gunicorn -k uvicorn.workers.UvicornWorker api.main:app --timeout=60", {
            "wsgi": "api.main:app", "worker_class": "uvicorn.workers.UvicornWorker", "timeout": 60,
        }),
        ("uvicorn main:app --host 0.0.0.0 --port $PORT", {
            "wsgi": "main:app", "worker_class": "uvicorn.workers.UvicornWorker",
        }),
        ("granian --interface wsgi wsgi:app", {"wsgi": "wsgi:app"}),
        ("gunicorn wsgi:app -kgevent -t9 --timeout 120 --threads 0", {
            "wsgi": "wsgi:app", "worker_class": "gevent", "timeout": 120,
        }),
        ("python app.py", {}),
        ("gunicorn 'unclosed", {}),
    ],
)  # fmt: skip
def test_server_settings(command: str, settings: dict[str, Any]) -> None:
    assert discover.server_settings(command) == settings


@pytest.mark.parametrize("command", ["a && b", "X=1 a", "./release.sh", "a > b", "a $HOME", "a 'b' | c"])
def test_what_needs_a_shell_gets_one(command: str) -> None:
    import shlex

    assert shlex.split(discover.in_shell(command)) == ["sh", "-c", command]


def test_a_plain_command_stays() -> None:
    assert discover.in_shell("flask db upgrade") == "flask db upgrade"


HOSTILE = [
    "{{ lookup('pipe', 'id') }}", "{% if x %}", "a\nb: c", "x # y", "'", '"', "- a", "!vault x", "&a *a", "yes", "12",
    "", "a: b", "\u2028x", "${X}", "`id`", "%{x}", "[a, b]", "@x", "|\n x", "\ttab", "x\\", "🦀", "{#",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_data(tmp_path: Path, value: str) -> None:
    """Values of app.json come back as they were, and none is Jinja to Ansible."""
    files = {"Procfile": "web: gunicorn a:b\n", "app.json": json.dumps({"env": {"X": value, "Y": "y"}})}
    found = discover.discover(checkout(tmp_path / "shop", files))
    text = making.texts(found, making.Wanted("prod", "h", "a.example.com"), tmp_path)[making.APPS]
    env = yaml.load(text, Loader=_Unsafe)["apps"]["shop"]["env"]  # noqa: S506 - it is a SafeLoader
    if value:
        assert env["X"] == value
    assert env["Y"] == "y"
    jinja = [line for line in text.splitlines() if re.search(r"\{[{%#]", line.partition(" # ")[0])]
    assert all("!unsafe" in line or "vault_" in line or line.startswith("    #") for line in jinja)


def test_hostile_names_of_files_stay_in_their_comment(tmp_path: Path) -> None:
    files = {"Procfile": "web: gunicorn a:b\n", "x\nenv: {A: 1}.py": 'import os\nos.environ["NEEDED"]\n'}
    found = discover.discover(checkout(tmp_path / "shop", files))
    text = making.texts(found, making.Wanted("prod", "h", "a.example.com"), tmp_path)[making.APPS]
    assert list(yaml.safe_load(text)) == ["apps"]
    assert list(yaml.safe_load(text)["apps"]["shop"]["env"]) == ["SECRET_KEY"]
