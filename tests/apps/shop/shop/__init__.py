"""A shop: orders are taken by the web app, and priced by a Celery worker."""

import os
from pathlib import Path

from celery import Celery, Task
from flask import Flask
from flask_migrate import Migrate

from .models import db

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")
ROOT = Path(__file__).resolve().parents[1]


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True}
    db.init_app(app)
    Migrate(app, db, directory=ROOT / "migrations")
    app.extensions["celery"] = make_celery(app)
    from . import pages

    app.register_blueprint(pages.blueprint)
    return app


def make_celery(app: Flask) -> Celery:
    class ContextTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"], task_cls=ContextTask)
    # A task counts as done when it has ended: one whose worker was killed is given to another worker.
    celery.conf.update(
        include=["shop.tasks"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        # Seconds until a task whose worker never came back is given out anew: more than the longest task takes. It is
        # looked for each time (every 10 s), not each tenth time; a lock on that may be left by a killed worker too.
        broker_transport_options={
            "visibility_timeout": 30,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 30,
        },
        broker_connection_retry_on_startup=True,
        beat_schedule={
            "tick": {"task": "shop.tasks.tick", "schedule": 2.0, "options": {"expires": 10}},
            "sweep": {"task": "shop.tasks.sweep", "schedule": 10.0, "options": {"expires": 10}},
        },
    )
    celery.set_default()
    return celery
