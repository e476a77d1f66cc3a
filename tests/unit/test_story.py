"""What recorded runs come to: exit code, releases, failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zarpar.errors import Exit
from zarpar.story import Header, Moment, Release, Step, Story

EVENTS = Path(__file__).parent / "events"


def replay(name: str, *, interrupted: bool = False) -> tuple[Story, list[Moment]]:
    """Feed a recorded run to a story; return it with all that it told."""
    story = Story()
    *events, end = json.loads((EVENTS / f"{name}.json").read_text())
    moments = [moment for event in events for moment in story.feed(event)]
    return story, moments + story.close(end["return_code"], interrupted=interrupted)


@pytest.mark.parametrize(
    ("name", "code", "kinds", "changes"),
    [
        ("released", Exit.OK, [], 9),
        ("nothing", Exit.OK, [], 0),
        ("first_unhealthy", Exit.FAILED, ["unhealthy"], 2),
        ("second_unhealthy", Exit.PARTIAL, ["unhealthy"], 3),
        ("refused", Exit.REFUSED, ["bad_data"], 0),
        ("unreachable", Exit.UNREACHABLE, ["unreachable", "unreachable"], 0),
        ("stopped", Exit.FAILED, ["failed"], 1),
        ("hidden", Exit.FAILED, ["failed", "failed"], 2),
        ("loop", Exit.FAILED, ["failed", "failed"], 0),
        ("rescued", Exit.OK, [], 0),
        ("does_not_load", Exit.REFUSED, ["bad_data"], 0),
        ("no_hosts", Exit.REFUSED, ["bad_data"], 0),
    ],
)
def test_endings(name: str, code: Exit, kinds: list[str], changes: int) -> None:
    story, _ = replay(name)
    assert story.exit_code() == code
    assert [failure.kind for failure in story.failures] == kinds
    assert story.changes == changes


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("released", {"web1": "active", "web2": "active"}),
        ("nothing", {"web1": "unchanged", "web2": "unchanged"}),
        ("first_unhealthy", {"web1": "not_activated", "web2": "not_activated"}),
        ("second_unhealthy", {"web1": "active", "web2": "not_activated"}),
    ],
)
def test_the_outcome_of_every_release_is_told(name: str, outcomes: dict[str, str]) -> None:
    story, _ = replay(name)
    assert {one.host: one.outcome for one in story.releases} == outcomes


def test_the_facts_of_all_verbs_come_together() -> None:
    story, _ = replay("released")
    assert story.releases[0] == Release(
        "web1", "notes", "3f2a9c1d-a1b2c3", "active", 8.7, "https://notes.example.test/", "3f2a9c1d00"
    )


def test_an_interrupted_run_says_so_whatever_else_happened() -> None:
    assert replay("second_unhealthy", interrupted=True)[0].exit_code() == Exit.INTERRUPTED


def test_a_play_is_named_once_and_only_if_it_has_something_to_tell() -> None:
    _, moments = replay("released")
    headers = [moment.title for moment in moments if isinstance(moment, Header)]
    assert headers == ["Preflight", "Provision", "Prepare", "Migrate", "Activate"]


def test_a_hidden_change_is_counted_and_nothing_of_it_is_kept() -> None:
    story, moments = replay("hidden")
    assert [step.changed for step in story.steps] == [("Write",), ("Write",)]
    assert "CANARY" not in repr(moments) + json.dumps(story.as_dict())


def test_a_host_that_fails_is_not_called_fine_for_its_earlier_tasks() -> None:
    story, moments = replay("hidden")
    assert not [moment for moment in moments if isinstance(moment, Step)]
    assert len(story.steps) == 2


def test_a_run_that_breaks_off_after_changes_was_not_refused() -> None:
    story = Story()
    for event in json.loads((EVENTS / "released.json").read_text())[:20]:
        story.feed(event)
    story.feed({"event": "verbose", "stdout": "[ERROR]: out of memory"})
    story.close(None)
    assert story.exit_code() == Exit.FAILED
    assert story.failures[0].summary == "out of memory"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "EOF"},
        {"event": "runner_on_ok", "event_data": {"host": "web1", "res": None}},
        {"event": "runner_on_ok", "event_data": {"host": "web1", "res": {}, "duration": None}},
        {"event": "runner_on_ok", "event_data": {"host": "web1", "res": {"zarpar": {"apps": ["notes"]}}}},
        {"event": "runner_on_ok", "event_data": {"host": "web1", "res": {"zarpar": {"apps": {"notes": None}}}}},
        {"event": "runner_on_failed", "event_data": {"host": "web1"}},
        {"event": "playbook_on_stats", "event_data": {}},
    ],
)
def test_odd_events_do_not_break_it(event: dict[str, Any]) -> None:
    story = Story()
    story.feed(event)
    story.close(2)
    json.dumps(story.as_dict())


def test_what_each_host_is_busy_with() -> None:
    story = Story()
    events = json.loads((EVENTS / "nothing.json").read_text())
    assert story.doing() == "starting"
    told = []
    for event in events[:-1]:
        story.feed(event)
        told.append(story.doing())
    assert "web1 base: Apply the base manifest, web2 base: Apply the base manifest" in told
