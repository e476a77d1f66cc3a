"""The entry point of `celery`: tasks run with the web app's settings and database."""

from shop import create_app

app = create_app().extensions["celery"]
