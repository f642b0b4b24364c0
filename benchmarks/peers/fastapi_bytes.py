"""FastAPI that sends bytes as they lie in Redis, one GET a request, with the ETag that is kept before them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import redis.asyncio
from fastapi import FastAPI, Request, Response

BODY = Path(os.environ["BENCHMARK_PAGE"]).read_bytes()
TAG = f'"{hashlib.sha256(BODY).hexdigest()[:22]}"'.encode()

application = FastAPI()
store: Any = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])


@application.get("/api/v1/screenshots/")
async def page(request: Request) -> Response:
    kept = await store.get(request.url.query)
    if kept is None:
        kept = TAG + BODY
        await store.set(request.url.query, kept)
    tag, body = kept[: len(TAG)].decode(), kept[len(TAG) :]
    headers = {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
