"""A release that is not healthy never gets visitors, and the message is enough to mend it."""

from __future__ import annotations

from support.site import APP, Site

ILL = """
@blueprint.get("/health")
def health() -> Response:
    current_app.logger.error("the flux is out of balance, number %s", 40 + 7)
    return Response("no flux", 503)


def unused() -> Response:
"""


def test_an_ill_release_is_not_activated_and_the_next_good_one_is(site: Site) -> None:
    before = site.serving()
    head = site.app.head()
    old = '@blueprint.get("/health")\ndef health() -> Response:\n'
    site.app.edit("notes/health.py", old, ILL.lstrip("\n"))
    bad = site.app.commit("Ill on purpose")
    done = site.world.deploy()
    assert done.code == 1, str(done)
    assert len(done.errors()) == 1, str(done)
    assert bad in done.errors()[0], "the message names the release"
    assert "the flux is out of balance, number 47" in done.err, "the app's own log lines are shown"
    assert f"{before} still serves" in done.err, str(done)
    assert (site.serving(), site.live()) == (before, before)
    status = site.world.zarpar("status")
    assert before in status.text
    assert "healthy" in status.text
    slots = {"blue", "green"} - {site.world.state(site.host, APP)["live"]["slot"]}
    idle = f"zarpar-{APP}@{slots.pop()}.service"
    assert site.on_host("systemctl", "is-active", idle, check=False).strip() != "active", "the ill slot is stopped"

    site.app.reset(head)
    done = site.world.deploy()
    assert done.code == 0, str(done)
    assert site.serving().startswith(site.app.head())
