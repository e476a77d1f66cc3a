"""The pages."""

import os

import redis
from celery.result import AsyncResult
from flask import Blueprint, Response, abort, jsonify, request
from sqlalchemy import func, select, text

from . import RELEASE, tasks
from .models import Order, Parcel, Run, Wanted, db

blueprint = Blueprint("pages", __name__)
broker = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)


@blueprint.get("/")
def index() -> str:
    return f"<h1>Shop</h1><p>{db.session.scalar(select(func.count(Order.id)))} orders, release {RELEASE}</p>"


@blueprint.get("/health")
def health() -> Response:
    db.session.execute(text("SELECT 1"))
    broker.ping()
    return jsonify(status="ok", database="ok", redis="ok", release=RELEASE)


@blueprint.post("/orders")
def take() -> tuple[Response, int]:
    wanted = request.get_json()
    if wanted.get("item") not in tasks.PRICES:
        abort(404)
    order = Order(item=wanted["item"], amount=int(wanted["amount"]))
    db.session.add(order)
    db.session.commit()
    return jsonify(order=order.id, task=tasks.price.delay(order.id).id), 202


@blueprint.get("/tasks/<task>")
def result(task: str) -> Response:
    found = AsyncResult(task)
    return jsonify(state=found.state, result=found.result if found.successful() else None)


@blueprint.post("/parcels")
def send() -> tuple[Response, int]:
    """Have a row of parcels sent."""
    wanted = request.get_json()
    seconds, numbers = float(wanted.get("seconds", 0)), range(int(wanted["first"]), int(wanted["last"]) + 1)
    db.session.add_all(Wanted(number=number, seconds=seconds) for number in numbers)
    db.session.commit()
    for number in numbers:
        tasks.send.delay(number, seconds)
    return jsonify(queued=len(numbers)), 202


@blueprint.get("/parcels")
def parcels() -> Response:
    """Those that were sent; how many tasks ran for them, and which had to be queued again."""
    runs = db.session.scalar(select(func.count(Run.id)).where(Run.task == "send"))
    sent = db.session.scalars(select(Parcel.number).order_by(Parcel.number))
    again = db.session.scalars(select(Run.number).where(Run.task == "sweep"))
    return jsonify(sent=list(sent), runs=runs, again=list(again))


@blueprint.get("/ticks")
def ticks() -> Response:
    """How often beat's task ran, and when, newest first."""
    rows = db.session.execute(select(Run.at, Run.release).where(Run.task == "tick").order_by(Run.id.desc()).limit(50))
    return jsonify(ticks=[[row.at.timestamp(), row.release] for row in rows])
