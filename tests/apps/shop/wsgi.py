"""The entry point of web servers and of `flask`."""

from shop import create_app

app = create_app()
