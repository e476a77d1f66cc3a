"""Poems: a Quart app, served line by line."""

import importlib.util
import os
from collections.abc import AsyncIterator

from quart import Quart, abort

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")
POEMS = {
    "swan": ["I walk along the strand", "and count the boats at sea,", "and one of them was mine."],
    "crow": ["The crow has seen the land,", "the sailor has not yet."],
}
app = Quart(__name__)


@app.get("/")
async def index() -> str:
    return f"<h1>Poems</h1><p>{len(POEMS)} poems, release {RELEASE}</p>"


@app.get("/poems/<name>")
async def poem(name: str) -> tuple[AsyncIterator[str], dict[str, str]]:
    if name not in POEMS:
        abort(404)

    async def lines() -> AsyncIterator[str]:
        for line in POEMS[name]:
            yield line + "\n"

    return lines(), {"Content-Type": "text/plain; charset=utf-8"}


@app.get("/health")
async def health() -> dict[str, object]:
    """Tells also whether the development group was installed, which must not be."""
    return {"status": "ok", "release": RELEASE, "pytest": importlib.util.find_spec("pytest") is not None}
