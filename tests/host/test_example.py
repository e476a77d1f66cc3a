"""The example app, used as a visitor uses it: a note with a picture goes through nginx, app, database and disk."""

from __future__ import annotations

import re
import secrets

import pytest
from environment import App
from on_host import Machine
from visitor import Visitor

pytestmark = [pytest.mark.on("web"), pytest.mark.lab]

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
def example(app: App) -> App:
    if not str(app["source"]["path"]).endswith("examples/notes"):
        pytest.skip(f"{app['name']} is not the example app")
    if not app["uploads"]:
        pytest.skip(f"{app['name']} has no uploads")
    return app


def test_note_with_picture(machine: Machine, example: App, site: str, visitor: Visitor) -> None:
    text = f"zarpar-verify {secrets.token_hex(8)}"
    form = visitor.ask(f"{site}/")
    token = re.search(rb'name="csrf_token"[^>]*value="([^"]+)"', form.body)
    assert token, str(form)
    cookie = form.header("Set-Cookie")
    assert "HttpOnly" in cookie, cookie
    assert ("Secure" in cookie) == site.startswith("https:"), cookie
    fields = {"csrf_token": token.group(1).decode(), "text": text}
    content_type, body = multipart(fields, "picture", "../../evil.png", PICTURE)
    headers = {"Cookie": cookie.split(";")[0], "Content-Type": content_type, "Referer": f"{site}/"}
    posted = visitor.ask(f"{site}/", method="POST", headers=headers, body=body)
    assert (posted.status, posted.header("Location")) == (303, "/"), str(posted)

    page = visitor.ask(f"{site}/").body.decode()
    assert text in page
    source = re.search(r'<img src="(/uploads/[0-9a-f]+\.png)"', page.partition(text)[2])
    assert source, page
    picture = visitor.ask(site + source.group(1))
    assert (picture.status, picture.body, picture.header("Content-Type")) == (200, PICTURE, "image/png"), str(picture)
    assert picture.header("Cache-Control") == "max-age=604800", f"not answered by nginx: {picture}"
    stored = f"/srv/{example['name']}/shared/{example['uploads'][0]['path']}/{source.group(1).rpartition('/')[2]}"
    assert machine.check("stat -c '%%U:%%G %%a' %s", stored) == f"{example['name']}:{example['name']} 640"


def test_release_is_told(machine: Machine, example: App, site: str, visitor: Visitor) -> None:
    live = machine.live(example["name"])
    assert f'"release":"{live.release}"' in visitor.ask(f"{site}/health").body.decode().replace(" ", "")


def multipart(fields: dict[str, str], name: str, file: str, content: bytes) -> tuple[str, bytes]:
    """A form with a file, as a browser sends it: its content type and its body."""
    boundary = secrets.token_hex(16)
    start = f"--{boundary}\r\nContent-Disposition: form-data; name="
    body = "".join(f'{start}"{field}"\r\n\r\n{value}\r\n' for field, value in fields.items())
    body += f'{start}"{name}"; filename="{file}"\r\nContent-Type: image/png\r\n\r\n'
    end = f"\r\n--{boundary}--\r\n"
    return f"multipart/form-data; boundary={boundary}", body.encode() + content + end.encode()
