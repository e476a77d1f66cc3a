"""Tides of a harbour, worked out at build time."""

import json
import os
from pathlib import Path

from flask import Flask, Response, jsonify

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = os.environ["API_SECRET_KEY"]
    tides = json.loads(Path(__file__).with_name("tides.json").read_text())

    @app.get("/")
    def index() -> str:
        return f"<h1>Tides of {os.environ['HARBOUR']}</h1><p>release {RELEASE}</p>"

    @app.get("/tides/<hour>")
    def tide(hour: str) -> Response:
        return jsonify(harbour=os.environ["HARBOUR"], centimetres=tides[hour])

    @app.get("/health")
    def health() -> Response:
        secret = len(app.config["SECRET_KEY"]) >= 32
        whole = Path("frontend").exists() or Path("../frontend").exists()
        return jsonify(status="ok", release=RELEASE, secret=secret, frontend=whole)

    return app
