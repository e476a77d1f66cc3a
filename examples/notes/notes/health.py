"""`/health`: asked by Zarpar before a release gets visitors, and by monitoring afterwards."""

from flask import Blueprint, Response, current_app, jsonify
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from .models import db

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def health() -> Response:
    """Answer 200 when the app can work, else 503. Why it cannot is only for the log."""
    working = database_answers()
    response = jsonify(
        status="ok" if working else "failed",
        database="ok" if working else "failed",
        release=current_app.config["RELEASE_ID"],
    )
    response.status_code = 200 if working else 503
    response.headers["Cache-Control"] = "no-store"
    return response


def database_answers() -> bool:
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        current_app.logger.error("health: the database does not answer: %s", error)
        return False
    return True
