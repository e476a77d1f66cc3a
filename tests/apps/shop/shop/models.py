"""What is kept in PostgreSQL."""

from datetime import datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Order(db.Model):
    """An order; the worker writes its price."""

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    amount: Mapped[int]
    cents: Mapped[int | None]


class Wanted(db.Model):
    """A parcel that is to be sent, and when its task was queued. A queue may forget a task; this does not."""

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seconds: Mapped[float]
    queued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Parcel(db.Model):
    """A parcel that was sent: once, however often its task ran."""

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Run(db.Model):
    """Each run of a task that counts its runs, and the release of the worker that ran it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    task: Mapped[str]
    number: Mapped[int | None]
    release: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
