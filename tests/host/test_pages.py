"""What visitors get: answers, headers, static files, uploads, limits."""

from __future__ import annotations

import gzip
import re
import secrets
from functools import partial
from itertools import product
from pathlib import PurePosixPath

import pytest
from environment import App, Server
from on_host import Live, Machine
from testinfra.host import Host
from visitor import Answer, Visitor

pytestmark = pytest.mark.on("web")

FOREIGN = "203.0.113.9"  # documentation addresses: never a visitor's own
WAYS_UP = ("../", "%2e%2e/", "..%2f", "%2e%2e%2f", "..%5c", "./../")
SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def test_app_is_healthy(machine: Machine, app: App, live: Live, site: str, visitor: Visitor) -> None:
    """Over the slot's own socket, then through nginx."""
    assert live.state == "active", f"{live.unit} is {live.state}"
    status = machine.status(app["name"])
    assert status["healthy"], status["problem"]
    answer = visitor.ask(site + app["health"]["path"])
    assert answer.status == app["health"]["status"], str(answer)
    assert app["health"]["body"] in answer.body.decode(errors="replace"), str(answer)


def test_headers_of_every_answer(app: App, site: str, visitor: Visitor) -> None:
    """On good pages and on a missing one, each exactly once, whether the app or nginx sets them."""
    for path in ("/", app["health"]["path"], f"/zarpar-verify-{secrets.token_hex(4)}"):
        answer = visitor.ask(site + path)
        assert answer.status < 500, str(answer)
        check_headers(app, answer)


def test_headers_of_redirects(secure: App, visitor: Visitor) -> None:
    plain = visitor.ask(f"http://{secure['canonical']}/")
    assert plain.header("Server") == "nginx", plain
    assert not plain.header("Strict-Transport-Security"), f"has no meaning without TLS: {plain}"
    for domain in secure["domains"][1:]:
        check_headers(secure, visitor.ask(f"https://{domain}/"))


def test_static_files(machine: Machine, app: App, live: Live, site: str, visitor: Visitor) -> None:
    for url, name, content in static_files(machine, app, live):
        answer = visitor.ask(site + url + name)
        assert (answer.status, answer.body) == (200, content), f"not the file of the live release: {answer}"
        check_headers(app, answer)
        caching = answer.header("Cache-Control")
        assert "max-age=2592000" in caching, str(answer)
        assert "public" in caching, str(answer)
        again = visitor.ask(site + url + name, headers={"If-None-Match": answer.header("ETag")})
        assert (again.status, again.body) == (304, b""), f"a browser would load the file again: {again}"


def test_static_files_are_compressed(machine: Machine, app: App, live: Live, site: str, visitor: Visitor) -> None:
    wanted = [found for found in static_files(machine, app, live) if len(found[2]) >= 1000 and is_text(found[1])]
    if not wanted:
        pytest.skip(f"{app['name']} has no static text of 1000 bytes or more")
    for url, name, content in wanted:
        answer = visitor.ask(site + url + name, headers={"Accept-Encoding": "gzip"})
        assert answer.header("Content-Encoding") == "gzip", str(answer)
        assert answer.header("Vary") == "Accept-Encoding", str(answer)
        assert gzip.decompress(answer.body) == content, str(answer)
        assert not visitor.ask(site + url + name).header("Content-Encoding"), "compressed, though nobody asked for it"


def test_static_does_not_lead_out_of_its_folder(
    machine: Machine, app: App, live: Live, site: str, visitor: Visitor
) -> None:
    """To files that are there, beside the folder and far above it, by the ways that have led out of others."""
    if not app["static"]:
        pytest.skip(f"{app['name']} has no static files")
    for entry in app["static"]:
        for levels, name, content in machine.ask(OUTSIDE, live.folder, entry["path"]):
            for start, up in product((entry["url"], entry["url"].rstrip("/")), WAYS_UP):
                answer = visitor.ask(f"{site}{start}{up * levels}{name}")
                assert bytes.fromhex(content) not in answer.body, f"{name} is served: {answer}"


def test_folders_are_not_listed(app: App, site: str, visitor: Visitor) -> None:
    for entry in [*app["static"], *app["uploads"]]:
        answer = visitor.ask(site + entry["url"])
        assert answer.status in {403, 404}, str(answer)
        previous = visitor.ask(f"{site}/zarpar-previous{entry['url']}x")
        assert previous.status == 404, f"the release before is for nginx's own use: {previous}"


def test_uploads_are_shut_in(app: App, site: str, visitor: Visitor) -> None:
    """What strangers upload cannot run in the site's name."""
    if not app["uploads"]:
        pytest.skip(f"{app['name']} has no uploads")
    for entry in app["uploads"]:
        answer = visitor.ask(f"{site}{entry['url']}zarpar-verify-{secrets.token_hex(4)}.html")
        assert answer.status == 404, str(answer)
        check_headers(app, answer)
        assert "sandbox" in answer.header("Content-Security-Policy"), str(answer)


def test_body_limit(app: App, site: str, visitor: Visitor) -> None:
    """Nothing large is sent: nginx judges by the announced length, before the app hears of it."""
    size = app["client_max_body_size"].upper()
    if size == "0":
        pytest.skip(f"{app['name']} has no limit")
    limit = int(size.rstrip("KMG")) * SIZES[size.lstrip("0123456789")]
    answer = visitor.ask(f"{site}/", method="POST", headers={"Content-Length": str(limit + 1)})
    assert answer.status == 413, str(answer)
    check_headers(app, answer)


def test_visitors_address_cannot_be_forged(
    server: Server, machine: Machine, app: App, live: Live, site: str, visitor: Visitor
) -> None:
    """The app's access log has the address that nginx saw, whatever the visitor claims to be."""
    if not app["gunicorn"]["access_log"]:
        pytest.skip(f"{app['name']} has no access log")
    token = secrets.token_hex(8)
    forged = {"X-Real-IP": FOREIGN, "X-Forwarded-For": FOREIGN, "Forwarded": f"for={FOREIGN}"}
    path = app["health"]["path"]
    visitor.ask(f"{site}{path}{'&' if '?' in path else '?'}{token}", headers=forged)
    if app["logs"] == "file":
        lines = machine.check(f"grep {token} /var/log/zarpar/{app['name']}/access.log")
    else:
        lines = machine.check(f"journalctl --sync; journalctl --no-pager -o cat -u {live.unit} -n 200 | grep {token}")
    assert FOREIGN not in lines, f"the app believes the visitor: {lines}"
    assert re.match(r"[0-9a-f.:]+ ", lines), lines


def test_host_cannot_be_forged(app: App, site: str, visitor: Visitor) -> None:
    forged = {"X-Forwarded-Host": "forged.example", "X-Forwarded-Prefix": "/forged", "X-Forwarded-Port": "4"}
    for path in ("/", app["health"]["path"]):
        answer = visitor.ask(site + path, headers=forged)
        assert "forged" not in f"{answer.headers}{answer.body.decode(errors='replace')}", str(answer)


@pytest.mark.lab
def test_unavailable_page(
    machine: Machine, app: App, live: Live, site: str, visitor: Visitor, request: pytest.FixtureRequest
) -> None:
    """Instead of a bare 502, while nothing answers."""
    machine.check(f"systemctl stop {live.unit}")
    request.addfinalizer(partial(machine.check, f"systemctl start {live.unit}"))
    answer = visitor.ask(f"{site}/")
    assert answer.status == 503, str(answer)
    assert b"Back in a moment" in answer.body, str(answer)
    assert answer.header("Content-Type").startswith("text/html"), str(answer)
    assert answer.header("Retry-After"), str(answer)
    assert answer.header("Cache-Control") == "no-store", str(answer)
    check_headers(app, answer)
    for entry in app["static"]:
        assert visitor.ask(f"{site}{entry['url']}none").status == 404, "static files do not need the app"


@pytest.mark.lab
def test_hidden_files_are_not_served(
    machine: Machine, app: App, live: Live, site: str, visitor: Visitor, request: pytest.FixtureRequest
) -> None:
    served = [(entry["url"], f"{live.folder}/src/{entry['path']}") for entry in app["static"]]
    served += [(entry["url"], f"/srv/{app['name']}/shared/{entry['path']}") for entry in app["uploads"]]
    if not served:
        pytest.skip(f"{app['name']} has neither static files nor uploads")
    for url, folder in served:
        request.addfinalizer(partial(machine.check, "rm -rf %s/.zarpar-verify", folder))
        machine.check("mkdir %s/.zarpar-verify", folder)
        machine.check("echo secret > %s/.zarpar-verify/file && echo secret > %s/.zarpar-verify/.env", folder, folder)
        machine.check("chown -R %s: %s/.zarpar-verify", app["name"], folder)
        for name in ("file", ".env"):
            answer = visitor.ask(f"{site}{url}.zarpar-verify/{name}")
            assert answer.status == 404, str(answer)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("page.html", "<script>alert(1)</script>", False),
        ("image.svg", "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", False),
        ("script.js", "alert(1)", False),
        ("picture.png", "\\211PNG", True),
        ("notes.txt", "<script>alert(1)</script>", True),
        ("unknown", "<script>alert(1)</script>", False),
    ],
)
def test_uploads_of_strangers(
    host: Host, machine: Machine, app: App, site: str, visitor: Visitor, name: str, content: str, shown: bool
) -> None:
    if not app["uploads"]:
        pytest.skip(f"{app['name']} has no uploads")
    entry = app["uploads"][0]
    path = f"/srv/{app['name']}/shared/{entry['path']}/zarpar-verify-{name}"
    machine.check(f"cd / && umask 0027 && runuser -u {app['name']} -- sh -c %s", f'printf "$0" > {path}')
    try:
        answer = visitor.ask(f"{site}{entry['url']}zarpar-verify-{name}")
    finally:
        machine.check("rm %s", path)
    assert answer.status == 200, str(answer)
    check_headers(app, answer)
    assert ("attachment" in answer.header("Content-Disposition")) != shown, str(answer)
    assert "sandbox" in answer.header("Content-Security-Policy"), str(answer)


@pytest.mark.lab
def test_uploads_do_not_lead_to_other_files(machine: Machine, app: App, site: str, visitor: Visitor) -> None:
    """nginx may read the files of every app, so an app's link could show another's."""
    if not app["uploads"]:
        pytest.skip(f"{app['name']} has no uploads")
    entry = app["uploads"][0]
    link = f"/srv/{app['name']}/shared/{entry['path']}/zarpar-verify-link"
    machine.check(f"runuser -u {app['name']} -- ln -s /etc/hostname {link}")
    try:
        answer = visitor.ask(f"{site}{entry['url']}zarpar-verify-link")
    finally:
        machine.check("rm %s", link)
    assert answer.status in {403, 404}, str(answer)


@pytest.mark.lab
def test_challenges_are_answered_by_http(secure: App, machine: Machine, visitor: Visitor) -> None:
    """The certificate's renewal must not be redirected."""
    name = f"zarpar-verify-{secrets.token_hex(8)}"
    folder = "/var/www/zarpar/acme/.well-known/acme-challenge"
    machine.check("mkdir -p %s && echo token > %s/%s", folder, folder, name)
    try:
        answers = [visitor.ask(f"http://{domain}/.well-known/acme-challenge/{name}") for domain in secure["domains"]]
    finally:
        machine.check("rm %s/%s", folder, name)
    for answer in answers:
        assert (answer.status, answer.body) == (200, b"token\n"), str(answer)


def check_headers(app: App, answer: Answer) -> None:
    """The headers that every answer of an app has, once; and nothing about the programs behind it."""
    wanted = ["X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"]
    if answer.url.startswith("https:") and app["hsts"]:
        wanted.append("Strict-Transport-Security")
    for name in wanted:
        assert len(answer.headers.get_all(name, [])) == 1, f"{name} is not there exactly once: {answer}"
    assert answer.header("X-Content-Type-Options") == "nosniff", str(answer)
    if "Strict-Transport-Security" in wanted:
        assert answer.header("Strict-Transport-Security").startswith("max-age="), str(answer)
    assert answer.header("Server") == "nginx", f"tells too much: {answer}"
    assert not answer.header("X-Powered-By"), f"tells too much: {answer}"


def is_text(name: str) -> bool:
    return PurePosixPath(name).suffix in {".css", ".js", ".mjs", ".svg", ".json", ".txt", ".xml"}


def static_files(machine: Machine, app: App, live: Live) -> list[tuple[str, str, bytes]]:
    """For each static folder its largest file under 1 MB: the URL before it, its name, its content."""
    if not app["static"]:
        pytest.skip(f"{app['name']} has no static files")
    found = []
    for entry in app["static"]:
        folder = f"{live.folder}/src/{entry['path']}"
        picked = machine.ask(LARGEST, folder)
        if picked:
            found.append((entry["url"], picked["name"], bytes.fromhex(picked["content"])))
    if not found:
        pytest.skip(f"the static folders of {app['name']} are empty in release {live.release}")
    return found


LARGEST = """
import json, pathlib, re, sys
folder = pathlib.Path(sys.argv[1])
plain = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
found = [(path.stat().st_size, path) for path in folder.rglob("*")
         if path.is_file() and plain.fullmatch(str(path.relative_to(folder))) and path.stat().st_size < 2**20]
text = [item for item in found if item[1].suffix in (".css", ".js", ".mjs", ".svg")]
best = max(text or found, default=None)
print(json.dumps(best and {"name": str(best[1].relative_to(folder)), "content": best[1].read_bytes().hex()}))
"""

OUTSIDE = """
import json, pathlib, sys
release, path = pathlib.Path(sys.argv[1]), pathlib.PurePath(sys.argv[2])
parent = (release / "src" / path).parent
beside = sorted(found for found in parent.iterdir() if found.is_file() and found.stat().st_size)[:1]
targets = [(1, found) for found in beside] + [(len(path.parts) + 1, release / "release.json")]
print(json.dumps([(levels, found.name, found.read_bytes()[:4096].hex()) for levels, found in targets]))
"""
