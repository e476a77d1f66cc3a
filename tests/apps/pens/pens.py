"""A stock of pens, in plain SQL."""

import os

from flask import Flask, Response, jsonify
from psycopg_pool import ConnectionPool

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")
TAKE_IN = """
    INSERT INTO pen VALUES (%s, %s) ON CONFLICT (colour) DO UPDATE SET amount = pen.amount + excluded.amount
"""
app = Flask(__name__)
pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=4, open=True)


@app.get("/")
def index() -> str:
    return f"<h1>Pens</h1><p>release {RELEASE}</p>"


@app.get("/health")
def health() -> Response:
    with pool.connection(timeout=5) as link:
        link.execute("SELECT 1 FROM pen LIMIT 1")
    return jsonify(status="ok", database="ok", release=RELEASE)


@app.post("/pens/<colour>/<int:amount>")
def take_in(colour: str, amount: int) -> Response:
    with pool.connection() as link:
        link.execute(TAKE_IN, (colour, amount))
    return stock()


@app.get("/pens")
def stock() -> Response:
    with pool.connection() as link:
        return jsonify(dict(link.execute("SELECT colour, amount FROM pen ORDER BY colour").fetchall()))
