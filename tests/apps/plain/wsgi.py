"""Knots to kilometres an hour: as small as an app can be."""

import os

from flask import Flask, Response, jsonify

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")
app = Flask(__name__)


@app.get("/")
def index() -> str:
    return f"<h1>Knots</h1><p>release {RELEASE}</p>"


@app.get("/knots/<int:knots>")
def convert(knots: int) -> Response:
    return jsonify(kmh=round(knots * 1.852, 3))


@app.get("/health")
def health() -> Response:
    return jsonify(status="ok", release=RELEASE)
