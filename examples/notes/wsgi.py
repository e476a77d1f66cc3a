"""The entry point of WSGI servers: `gunicorn wsgi:app`."""

from notes import create_app

app = create_app()
