"""What remains of a request, put where the request would have put it: by the fast path, in front of a copyist."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

from django.core.handlers.wsgi import WSGIHandler

from benchmarks.harness.worker import WSGI
from keybits import memory, readthrough
from keybits.fastpath import HOLDER, Holder
from keybits.fastpath.wsgi import FastPath

__all__ = ["fill"]


def fill(caller: WSGI, urls: Iterable[str]) -> None:
    """Have an entry for each address kept in the store and in memory, its answer learnt and given once."""
    addresses = iter(urls)
    copyist = _Copyist(caller.application, caller.prepare(next(addresses), {}))
    filler = WSGI(FastPath(copyist))
    for url in addresses:
        filler.run([filler.prepare(url, {}), filler.prepare(url, {})])


class _Copyist(WSGIHandler):
    """Gives every address the answer that Django gave to one, and notes what the mixin noted, under another key."""

    def __init__(self, path: Any, environ: dict[str, Any]) -> None:
        self.holder = environ[HOLDER] = Holder()
        self.body = b"".join(path.application(environ, self._note))
        held = memory.entries().get(self.holder.key)
        assert held is not None
        self.entry = held.entry

    def _note(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.head = (status, headers)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        key = blake2b(environ["QUERY_STRING"].encode(), digest_size=16).hexdigest()
        readthrough.store(key, self.entry)
        holder = environ[HOLDER]
        holder.key, holder.scopes, holder.answer = key, self.holder.scopes, self.holder.answer
        start_response(*self.head)
        return [self.body]
