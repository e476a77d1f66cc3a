"""The form for a new note; Flask-WTF adds and checks its CSRF token."""

from flask import current_app
from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from werkzeug.datastructures import FileStorage
from wtforms import TextAreaField, ValidationError
from wtforms.validators import DataRequired, Length

from .pictures import picture_type


def clean(text: str | None) -> str:
    """Strip blanks, and NUL characters, which PostgreSQL cannot store."""
    return (text or "").replace("\0", "").strip()


def is_picture(_form: FlaskForm, field: FileField) -> None:
    """Refuse files that are no picture by name or by content."""
    if not isinstance(field.data, FileStorage):
        return
    extension = (field.data.filename or "").rpartition(".")[2].lower()
    if extension not in current_app.config["PICTURE_TYPES"] or picture_type(field.data.stream) is None:
        raise ValidationError("This is not a PNG, JPEG, GIF or WebP picture.")


class NoteForm(FlaskForm):
    text = TextAreaField("Note", filters=[clean], validators=[DataRequired(), Length(max=2000)])
    picture = FileField("Picture (optional, up to 8 MB)", validators=[is_picture])
