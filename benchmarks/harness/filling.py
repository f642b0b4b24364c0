"""What remains of a request, put where the request would have put it."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from keybits import fastpath, memory, readthrough
from keybits.fastpath.wsgi import _question

__all__ = ["fill"]


def fill(caller: Any, urls: Iterable[str]) -> None:
    """Have an entry for each address kept in the store and in memory, its answer learnt and given once.

    Each is a copy of the entry, the envelope and the scopes of the last address that was asked for.
    """
    lane = fastpath.lane()
    assert lane is not None
    target = next(reversed(lane._targets._slots.values())).value
    held = memory.entries().get(target.key)
    assert held is not None
    context = next(iter(target.contexts.values()))
    for url in urls:
        question = _question(caller.prepare(url, ""), lane)
        assert question is not None
        key = blake2b(url.encode(), digest_size=16).hexdigest()
        readthrough.store(key, held.entry)
        mine = lane._target(question[0], fastpath.Holder(key, target.scopes))
        for code, around in context.envelopes.items():
            fastpath._admit(mine, question[1], code, around)
        lane._targets.weigh(question[0], mine, memory.footprint(question[0]) + mine.size)
        lane.answer(*question)
