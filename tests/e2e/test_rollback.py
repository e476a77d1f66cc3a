"""Going back by hand: to the newest good release, further back, and never to code that does not know the schema."""

from __future__ import annotations

import json

from support.report import note
from support.site import APP, Site

SECOND = '''"""Notes get a colour. (The code of this test does not use it.)"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("note", sa.Column("colour", sa.String(20), nullable=True))


def downgrade() -> None:
    op.drop_column("note", "colour")
'''


def test_rollback_walks_back(site: Site) -> None:
    released = []
    for number in (1, 2, 3):
        released.append(site.app.commit(f"Number {number}"))
        done = site.world.deploy()
        assert done.code == 0, str(done)
    for earlier in (released[1], released[0]):
        done = site.world.zarpar("rollback")
        note(f"rollback: {done.seconds:.1f} s")
        assert done.code == 0, str(done)
        assert site.serving().startswith(earlier), str(done)
    listed = {one["release"][:8]: one for one in _releases(site)}
    assert [listed[commit]["status"] for commit in released[1:]] == ["bad", "bad"]


def test_rollback_to_a_named_release(site: Site) -> None:
    """Also to one that was left as bad before: a person knows better."""
    target = next(one["release"] for one in _releases(site) if one["subject"] == "Number 2")
    done = site.world.zarpar("rollback", "--to", target)
    assert done.code == 0, str(done)
    assert site.serving() == target


def test_rollback_to_what_is_not_there(site: Site) -> None:
    before = site.serving()
    done = site.world.zarpar("rollback", "--to", "0123abcd-0123ab")
    assert done.code in (1, 2), str(done)
    assert "0123abcd-0123ab" in done.errors()[0], str(done)
    assert site.serving() == before


def test_code_that_does_not_know_the_schema_is_refused(site: Site) -> None:
    before = site.serving()
    head = site.app.commit("Colours", {"migrations/versions/0002_colour.py": SECOND})
    done = site.world.deploy()
    assert done.code == 0, str(done)
    done = site.world.zarpar("rollback")
    assert done.code in (1, 2), str(done)
    assert len(done.errors()) == 1, str(done)
    assert "0002" in done.err, "the reason names the schema that the old code does not know"
    assert site.serving().startswith(head)

    done = site.world.zarpar("rollback", "--force")
    assert done.code == 0, str(done)
    assert site.serving() == before
    done = site.world.deploy()
    assert done.code == 0, str(done)
    assert site.serving().startswith(head)


def test_releases_are_listed(site: Site) -> None:
    first, *others = _releases(site)
    assert first["release"] == site.serving()
    assert first["subject"] == "Colours"
    assert first["author"] == "Tess"
    assert "@" in first["by"]
    assert first["schema"] == ["0002"]
    assert "Number 2" in [one["subject"] for one in others]
    done = site.world.zarpar("releases")
    assert first["release"] in done.text
    assert "Colours" in done.text


def _releases(site: Site) -> list[dict[str, object]]:
    """The host's releases, the newest first, as --json tells them."""
    done = site.world.zarpar("releases", "--json")
    assert done.code == 0, str(done)
    found: list[dict[str, object]] = json.loads(done.out)["status"][site.host]["apps"][APP]["releases"]
    return found
