"""A feed: several sources are asked at once, and the answer is kept in Redis for a few seconds."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, StreamingResponse

RELEASE = os.environ.get("ZARPAR_RELEASE_ID", "none")
SOURCES = ("harbour", "weather", "tides")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The cache is connected once the event loop runs: an app without its lifespan has none."""
    app.state.cache = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=5)
    yield
    await app.state.cache.aclose()


app = FastAPI(lifespan=lifespan)


async def ask(source: str) -> str:
    await asyncio.sleep(0.3)
    return f"news of {source}"


@app.get("/", response_class=HTMLResponse)
async def index() -> str:
    return f"<h1>Feed</h1><p>release {RELEASE}</p>"


@app.get("/health")
async def health() -> dict[str, str]:
    await app.state.cache.ping()
    return {"status": "ok", "redis": "ok", "release": RELEASE}


@app.get("/news")
async def news(response: Response) -> dict[str, object]:
    """All sources at once: as slow as the slowest, not as their sum."""
    begin = time.monotonic()
    kept = await app.state.cache.get("news")
    response.headers["X-Cache"] = "hit" if kept else "miss"
    found = json.loads(kept) if kept else list(await asyncio.gather(*map(ask, SOURCES)))
    if not kept:
        await app.state.cache.set("news", json.dumps(found), ex=5)
    return {"news": found, "seconds": round(time.monotonic() - begin, 2)}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for source in SOURCES:
            yield await ask(source) + "\n"

    return StreamingResponse(lines(), media_type="text/plain")
