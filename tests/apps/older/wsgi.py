"""Tells which Python it runs on."""

import os
import platform
import sys

import markupsafe._speedups  # compiled for this Python: another one could not load it
from flask import Flask, Response, jsonify

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")
app = Flask(__name__)


@app.get("/")
def index() -> str:
    return f"<h1>Older</h1><p>Python {platform.python_version()}, release {RELEASE}</p>"


@app.get("/health")
def health() -> Response:
    version = ".".join(platform.python_version_tuple()[:2])
    compiled = markupsafe._speedups.__file__
    return jsonify(status="ok", release=RELEASE, python=version, base=sys.base_prefix, compiled=compiled)
