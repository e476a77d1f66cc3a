"""What web commands of other platforms mean here."""

from __future__ import annotations

import pytest

from zarpar import weblines
from zarpar.weblines import ASGI


@pytest.mark.parametrize(
    ("command", "target", "worker_class"),
    [
        ("gunicorn wsgi:app", "wsgi:app", ""),
        ("gunicorn -w 4 'app:create_app()'", "app:create_app()", ""),
        ("gunicorn --bind 0.0.0.0:8000 shop.wsgi:app --threads 2", "shop.wsgi:app", ""),
        ("gunicorn -k gthread app:app", "app:app", ""),
        ("gunicorn app.main:app -k uvicorn.workers.UvicornWorker", "app.main:app", ASGI),
        ("gunicorn app.main:app -kuvicorn_worker.UvicornWorker", "app.main:app", ASGI),
        ("python -m gunicorn --worker-class=uvicorn.workers.UvicornH11Worker main:app", "main:app", ASGI),
        ("gunicorn -k asgi main:app", "main:app", "asgi"),
        ("poetry run uvicorn main:app --host 0.0.0.0 --port $PORT", "main:app", ASGI),
        ("uvicorn --factory shop:create_app", "shop:create_app()", ASGI),
        ("hypercorn -b 0.0.0.0:$PORT quartapp:app", "quartapp:app", ASGI),
        ("daphne -p $PORT mysite.asgi:application", "mysite.asgi:application", ASGI),
        ("fastapi run app/main.py --port $PORT", "app.main:app", ASGI),
        ("fastapi run", "main:app", ASGI),
        ("waitress-serve --port=$PORT --call shop:create_app", "shop:create_app()", ""),
        ("granian --interface wsgi wsgi:app", "wsgi:app", ""),
        ("granian --interface=asgi --factory shop:create_app", "shop:create_app()", ASGI),
        ("python manage.py runserver", "", ""),
        ("gunicorn 'unclosed", "", ""),
        ("", "", ""),
    ],
)
def test_web_line(command: str, target: str, worker_class: str) -> None:
    found = weblines.read(command)
    assert (found.target, found.worker_class, found.note) == (target, worker_class, "")
    assert found.server == ("granian" if "granian" in command else "")


@pytest.mark.parametrize("command", ["cd backend && gunicorn app:app", "gunicorn --chdir backend app:app"])
def test_another_folder_is_told(command: str) -> None:
    assert "it changes to 'backend'" in weblines.read(command).note


def test_settings_of_django() -> None:
    text = """os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings.production")"""
    assert weblines.django_settings(text) == "shop.settings.production"
    assert weblines.django_settings("") == ""
