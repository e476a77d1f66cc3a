"""What a run costs that no clock measures: calls over SSH, and modules pushed to the host. More of either is slower."""

from __future__ import annotations

import re

from support.report import note
from support.site import Site

CALL = re.compile(r"SSH: EXEC (\S+)")
# What Ansible says when it makes, sends or runs a module of its own.
PUSHED = re.compile(r"AnsiballZ|Using module file|\bPUT\b|SSH: EXEC (?:sftp|scp)")

NOTHING_TO_DO = 2  # facts of the host; is there anything to do?
RELEASE = 6  # these two; prepare with the archive; migrate; activate; confirm
ROLLBACK = 4  # facts; status; rollback; confirm


def calls(text: str) -> int:
    """How many times a run with -vvv called the host; fails when it pushed a module."""
    pushed = [line for line in text.splitlines() if PUSHED.search(line)]
    assert not pushed, "\n".join(pushed[:5])
    programs = CALL.findall(text)
    assert set(programs) == {"ssh"}, programs
    return len(programs)


def test_nothing_to_do(site: Site) -> None:
    site.again()
    done = site.world.playbook("site.yml", "-vvv")
    assert done.code == 0, str(done)
    note(f"calls over SSH with nothing to do: {calls(done.text)}")
    assert calls(done.text) <= NOTHING_TO_DO


def test_a_release_and_its_rollback(site: Site) -> None:
    before = site.live()
    site.app.commit("Counted")
    done = site.world.playbook("site.yml", "-vvv")
    assert done.code == 0, str(done)
    assert site.live() != before
    note(f"calls over SSH for a release: {calls(done.text)}")
    assert calls(done.text) <= RELEASE
    done = site.world.playbook("playbooks/rollback.yml", "-vvv")
    assert done.code == 0, str(done)
    assert site.live() == before
    note(f"calls over SSH for a rollback: {calls(done.text)}")
    assert calls(done.text) <= ROLLBACK
    site.again()
