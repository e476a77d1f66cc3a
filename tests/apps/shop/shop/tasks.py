"""What the worker does."""

import time
from datetime import timedelta

from celery import shared_task
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from . import RELEASE
from .models import Order, Parcel, Run, Wanted, db

LATE = timedelta(seconds=150)
PRICES = {"rope": 450, "anchor": 12900, "sail": 34900}


@shared_task
def price(order_id: int) -> dict[str, object]:
    """Work out what an order costs."""
    order = db.session.get_one(Order, order_id)
    order.cents = PRICES[order.item] * order.amount
    db.session.commit()
    return {"cents": order.cents, "release": RELEASE}


@shared_task(ignore_result=True)
def send(number: int, seconds: float) -> None:
    """Send a parcel, which takes its time. It may run twice, and then sends nothing the second time."""
    time.sleep(seconds)
    db.session.execute(insert(Parcel).values(number=number).on_conflict_do_nothing())
    db.session.add(Run(task="send", number=number, release=RELEASE))
    db.session.commit()


@shared_task(ignore_result=True)
def sweep() -> None:
    """Queue again what was not sent for a long while; sent by beat.

    Celery takes a task from Redis and notes whose it is in two steps: a worker that is killed (-9) between them takes
    the task with it, acks_late or not.
    """
    unsent = ~select(Parcel).where(Parcel.number == Wanted.number).exists()
    late = select(Wanted).where(unsent, Wanted.queued_at < func.now() - LATE).with_for_update(skip_locked=True)
    parcels = [(each, each.number, each.seconds) for each in db.session.scalars(late)]
    for each, number, _ in parcels:
        each.queued_at = func.now()
        db.session.add(Run(task="sweep", number=number, release=RELEASE))
    db.session.commit()
    for _, number, seconds in parcels:
        send.delay(number, seconds)


@shared_task(ignore_result=True)
def tick() -> None:
    """Sent by beat, every two seconds."""
    db.session.add(Run(task="tick", release=RELEASE))
    db.session.commit()
