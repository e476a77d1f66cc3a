"""What the worker does."""

import time

from celery import shared_task
from sqlalchemy.dialects.postgresql import insert

from . import RELEASE
from .models import Order, Parcel, Run, db

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
def tick() -> None:
    """Sent by beat, every two seconds."""
    db.session.add(Run(task="tick", release=RELEASE))
    db.session.commit()
