"""The main job: from a bare host to HTTPS, again, and release after release, by the commands that people use."""

from __future__ import annotations

import json
import re

from support.report import note
from support.site import APP, Site
from support.world import until

ENDS_SLOWLY = "    configure_logging()\n    atexit.register(time.sleep, 20)\n"


def test_first_deploy_ends_with_verified_https(site: Site) -> None:
    first = site.first
    assert first is not None
    note(f"first deploy: {first.seconds:.1f} s")
    release = site.serving()  # trusts nothing but the lab's CA
    assert release.startswith(site.app.head())
    assert release in first.err
    assert f"{site.url}/" in first.err
    assert first.out == "", "the story goes to standard error; standard output is for --json"
    status, body = site.world.visit(site.host, f"{site.url}/")
    assert (status, "<html" in body) == (200, True)
    status, _ = site.world.visit(site.host, f"http://{site.domain}/")
    assert status == 308


def test_apt_ran_no_oftener_than_it_must(site: Site) -> None:
    """Once, for what all roles begin with; and PostgreSQL's cluster was made by the settings that it reads then."""
    ran = site.on_host("grep", "-c", "Commandline:.*DPkg::Lock::Timeout", "/var/log/apt/history.log")
    assert int(ran) == 1
    argv = ["runuser", "-u", "postgres", "--", "psql", "-Atc", "SHOW data_checksums"]
    assert site.on_host(*argv).strip() == "on"


def test_again_there_is_nothing_to_do(site: Site) -> None:
    before = site.world.state(site.host, APP)
    again = site.world.deploy()
    note(f"deploy with nothing to do: {again.seconds:.1f} s")
    assert again.code == 0, str(again)
    assert "nothing to do" in again.err, str(again)
    assert site.world.state(site.host, APP)["live"] == before["live"]


def test_plain_ansible_gives_the_same_end_state(site: Site) -> None:
    done = site.world.playbook("site.yml")
    assert done.code == 0, str(done)
    recap = re.search(rf"^{site.host}\s*:(.*)$", done.out, re.MULTILINE)
    assert recap, str(done)
    counts = dict(word.split("=") for word in recap.group(1).split())
    assert (counts["changed"], counts["failed"], counts["unreachable"]) == ("0", "0", "0"), str(done)


def test_check_tells_and_changes_nothing(site: Site) -> None:
    """On a converged host, with a new commit to release."""
    before = site.world.state(site.host, APP), site.serving()
    commit = site.app.commit("A new page", {"notes/static/new.txt": "new\n"})
    done = site.world.deploy("--check")
    assert done.code == 0, str(done)
    assert "to be released" in done.err, str(done)
    assert commit in done.err, str(done)
    assert (site.world.state(site.host, APP), site.serving()) == before
    assert not site.on_host("find", f"/srv/{APP}/releases", "-maxdepth", "1", "-name", f"{commit}*")


def test_a_commit_is_released(site: Site) -> None:
    commit = site.app.commit("A newer page", {"notes/static/new.txt": "newer\n"})
    done = site.world.deploy()
    note(f"release of a commit: {done.seconds:.1f} s")
    assert done.code == 0, str(done)
    assert site.serving().startswith(commit), str(done)
    assert site.world.visit(site.host, f"{site.url}/static/new.txt") == (200, "newer\n")


def test_uncommitted_changes_are_warned_of_and_not_released(site: Site) -> None:
    before = site.serving()
    site.app.write({"notes/static/new.txt": "not committed\n"})
    try:
        done = site.world.deploy()
        assert done.code == 0, str(done)
        assert f"warning: {APP}: uncommitted changes" in done.err, str(done)
        assert site.serving() == before
        assert site.world.visit(site.host, f"{site.url}/static/new.txt") == (200, "newer\n")
    finally:
        site.app.git("checkout", "--quiet", ".")


def test_json_is_one_document(site: Site) -> None:
    commit = site.app.commit("For the machines")
    done = site.world.deploy("--json")
    assert done.code == 0, str(done)
    answer = json.loads(done.out)
    assert answer["exit_code"] == 0
    released = [one for one in answer["releases"] if one["app"] == APP]
    assert [one["host"] for one in released] == [site.host]
    assert released[0]["release"].startswith(commit)
    assert released[0]["outcome"] == "active"


def test_status_shows_what_serves(site: Site) -> None:
    release = site.serving()
    done = site.world.zarpar("status")
    assert done.code == 0, str(done)
    assert re.search(rf"{site.host}\s+{APP}\s+{release}.*healthy", done.text), str(done)
    machine = site.world.zarpar("status", "--json")
    answer = json.loads(machine.out)
    app = answer["status"][site.host]["apps"][APP]
    assert app["live"]["release"] == release
    assert app["healthy"] is True
    assert app["certificate_days"] > 0


def test_a_ref_can_be_named(site: Site) -> None:
    """An older commit by --ref, then the branch's head again."""
    head = site.app.head()
    older = site.app.git("rev-parse", "HEAD~1")[:8]
    done = site.world.deploy("--ref", older)
    assert done.code == 0, str(done)
    assert site.serving().startswith(older)
    done = site.world.deploy()
    assert done.code == 0, str(done)
    assert site.serving().startswith(head)


def test_an_old_slot_that_ends_slowly_is_in_nobody_s_way(site: Site) -> None:
    """The host's lock of the app is free while the app takes its time to end; the next release waits for its slot."""
    head = site.app.head()
    first = "from flask import Flask, Response, render_template\n"
    slow = f"import atexit\nimport time\n\n{first}"
    site.app.edit("notes/__init__.py", first, slow)
    site.app.edit("notes/__init__.py", "    configure_logging()\n", ENDS_SLOWLY)
    site.app.commit("Ends slowly")
    assert site.world.deploy().code == 0
    ending = f"zarpar-{APP}@{site.world.state(site.host, APP)['live']['slot']}.service"
    site.app.reset(head)
    site.app.commit("Ends at once")
    assert site.world.deploy().code == 0
    shown = ("systemctl", "show", "-p", "ActiveState", "--value", ending)
    until(lambda: site.on_host(*shown).strip() == "deactivating", 120, "the watched release is good, the old one ends")
    site.on_host("flock", "--nonblock", f"/run/zarpar/{APP}.lock", "true")
    commit = site.app.commit("The next")
    done = site.world.deploy()
    assert done.code == 0, str(done)
    assert site.serving().startswith(commit), str(done)
