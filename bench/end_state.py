"""What every contender must have reached: looked at as a visitor, and inside the host. Never within measured time."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import time
import urllib.parse
from contextlib import closing
from dataclasses import dataclass

from bench.contenders.base import APP, DOMAIN, PACKAGES, Contender
from bench.lab import Lab
from bench.process import CommandFailed


class WrongState(AssertionError):
    """A contender said that it was done, and the site is not as it must be."""


@dataclass(frozen=True)
class Answer:
    """An answer of the site; the names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    address: str, path: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """Ask the site at an address for a path, or post a form there."""
    with closing(http.client.HTTPConnection(address, 80, timeout=20)) as link:
        sent = {"Host": DOMAIN, "Connection": "close", **(headers or {})}
        if form is None:
            link.request("GET", path, headers=sent)
        else:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            link.request("POST", path, urllib.parse.urlencode(form), sent)
        found = link.getresponse()
        told: dict[str, str] = {}
        for name, value in found.getheaders():  # the same name may come twice
            told[name.lower()] = f"{told[name.lower()]}, {value}" if name.lower() in told else value
        return Answer(found.status, told, found.read())


def served_release(address: str) -> str:
    """The release that answers, which is well and reaches its database."""
    answer = ask(address, "/health")
    facts = json.loads(answer.body) if answer.status == 200 else {}
    _demand(facts.get("database") == "ok", f"/health answered {answer.status}: {answer.body[:200]!r}")
    return str(facts["release"])


def check(contender: Contender, commit: str) -> None:
    """Raise WrongState unless the contender's host serves this commit in the full end state."""
    lab, host = contender.lab, contender.host
    address = lab.address(host)
    release = served_release(address)
    _demand(release.startswith(commit), f"{release} is served, not {commit}")
    _check_static(address)
    _check_note(lab, host, address)
    _check_units(lab, host, contender.units)
    _check_packages(lab, host)


def check_release(contender: Contender, commit: str) -> None:
    """Raise WrongState unless this commit is served and a visitor can post."""
    address = contender.lab.address(contender.host)
    release = served_release(address)
    _demand(release.startswith(commit), f"{release} is served, not {commit}")
    _check_static(address)
    _check_note(contender.lab, contender.host, address)


def _check_static(address: str) -> None:
    """The web server itself answers, with compression and for long: Flask would say no-cache."""
    answer = ask(address, "/static/notes.css", headers={"Accept-Encoding": "gzip"})
    _demand(answer.status == 200, f"the style sheet: {answer.status}")
    _demand(answer.headers.get("content-encoding") == "gzip", "the style sheet is not compressed")
    _demand(
        "max-age=2592000" in answer.headers.get("cache-control", ""),
        "the web server does not send the style sheet itself",
    )


def _check_note(lab: Lab, host: str, address: str) -> None:
    """A note that a visitor posts is on the page and in PostgreSQL."""
    text = f"note {secrets.token_hex(8)}"
    page = ask(address, "/")
    token = re.search(rb'name="csrf_token"[^>]*value="([^"]+)"', page.body)
    _demand(token is not None, f"no form on the page: {page.status}")
    assert token  # noqa: S101 - said just above
    cookie = page.headers.get("set-cookie", "").split(";")[0]
    headers = {"Cookie": cookie, "Origin": f"http://{DOMAIN}", "Referer": f"http://{DOMAIN}/"}
    posted = ask(address, "/", form={"csrf_token": token[1].decode(), "text": text}, headers=headers)
    _demand(posted.status == 303, f"posting a note: {posted.status}: {posted.body[:300]!r}")
    _demand(text.encode() in ask(address, "/").body, "the posted note is not on the page")
    query = f"select count(*) from note where text = '{text}'"  # noqa: S608 - our own text
    found = lab.inside(host, "runuser", "-u", "postgres", "--", "psql", "-qtA", "-d", APP, "-c", query)
    _demand(found.strip() == "1", f"the posted note is not in PostgreSQL: {found!r}")


def _check_units(lab: Lab, host: str, units: tuple[str, ...]) -> None:
    for unit in ("nginx.service", "postgresql.service", *units):
        said = lab.inside(host, "systemctl", "is-enabled", unit, check=False).strip()
        _demand(said == "enabled", f"{unit} is {said or 'not there'}, not enabled")
    failed = lab.inside(host, "systemctl", "--failed", "--plain", "--no-legend", check=False).strip()
    _demand(not failed, f"failed units: {failed}")


def _check_packages(lab: Lab, host: str) -> None:
    listed = lab.inside(host, "dpkg-query", "-Wf", "${db:Status-Abbrev}${Package}\n")
    there = {line.removeprefix("ii ") for line in listed.splitlines() if line.startswith("ii ")}
    missing = set(PACKAGES) - there
    _demand(not missing, f"packages are missing: {', '.join(sorted(missing))}")


def _demand(fine: bool, problem: str) -> None:
    if not fine:
        raise WrongState(problem)


def wait_for_calm(lab: Lab, host: str) -> None:
    """Wait until Zarpar watches no release on a host any more, and the old slot is gone. Raises CommandFailed."""
    deadline = time.monotonic() + 180
    units = ("zarpar-watch-*", "zarpar-drain-*")
    while "zarpar-" in lab.inside(host, "systemctl", "list-units", "--plain", "--no-legend", *units):
        if time.monotonic() > deadline:
            raise CommandFailed(f"{host}: the release is watched for too long")
        time.sleep(1)
