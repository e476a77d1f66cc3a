"""The pages, and `flask notes ...` for the same work in a terminal."""

from pathlib import Path

import click
from flask import Blueprint, Response, current_app, redirect, render_template, send_from_directory, url_for
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response as BaseResponse

from .forms import NoteForm
from .models import Note, db
from .pictures import save_picture

blueprint = Blueprint("notes", __name__)


@blueprint.get("/")
def index() -> str:
    return show(NoteForm())


@blueprint.post("/")
def post() -> BaseResponse | tuple[str, int]:
    form = NoteForm()
    if not form.validate():
        return show(form), 422
    add_note(form)
    return redirect(url_for(".index"), 303)


@blueprint.get("/uploads/<name>")
def picture(name: str) -> Response:
    """Send a picture on machines without nginx, which answers these addresses in production."""
    return send_from_directory(current_app.config["UPLOAD_FOLDER"], name)


@blueprint.cli.command("add")
@click.argument("text")
def add_command(text: str) -> None:
    """Post a note."""
    db.session.add(Note(text=text))
    db.session.commit()


@blueprint.cli.command("list")
def list_command() -> None:
    """List the latest notes."""
    for note in latest_notes():
        click.echo(f"{note.id}\t{note.created_at:%Y-%m-%d %H:%M}\t{note.text}")


def show(form: NoteForm) -> str:
    return render_template("index.html", form=form, notes=latest_notes())


def latest_notes() -> list[Note]:
    query = select(Note).order_by(Note.id.desc()).limit(current_app.config["NOTES_ON_PAGE"])
    return list(db.session.scalars(query))


def add_note(form: NoteForm) -> None:
    """Store the picture first: a note never points to a file that is not there."""
    folder: Path = current_app.config["UPLOAD_FOLDER"]
    name = save_picture(form.picture.data, folder) if form.picture.data else None
    note = Note(text=form.text.data, picture=name)
    try:
        db.session.add(note)
        db.session.commit()
    except SQLAlchemyError:
        if name:
            (folder / name).unlink(missing_ok=True)
        raise
    current_app.logger.info("note %s posted, picture: %s", note.id, name or "none")
