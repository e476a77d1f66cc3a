"""A blog has a first post."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def write(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("posts", "Post").objects.create(title="Set sail", text="The first post.")


class Migration(migrations.Migration):
    dependencies = (("posts", "0001_initial"),)
    operations = (migrations.RunPython(write, migrations.RunPython.noop),)
