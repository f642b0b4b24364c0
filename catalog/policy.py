"""How long caches may hold each kind of answer: the only place where a viewset's policy is declared.

A gallery can override it for answers that show the gallery, by `Gallery.max_age` and `Gallery.edge_max_age`. An answer
that shows several galleries is held no longer than any of them allows. A pending capture is never stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from catalog.models import Gallery, Screenshot, State
from keybits.cache_control import Lifetime, Policy, cache_control, strictest

__all__ = ["FILES", "GALLERIES", "SCREENSHOTS", "TAGS", "for_galleries", "is_pending"]

GALLERIES = Policy()
SCREENSHOTS = Policy()
TAGS = Policy()
FILES = cache_control(public=True, max_age=31_536_000, immutable=True)
"""For bytes under a name that is made of them: they need no revalidation."""


def for_galleries(policy: Policy, galleries: Iterable[Gallery]) -> Policy:
    """Return the policy for an answer that shows these galleries; `policy` if none overrides it."""
    unlike = {(gallery.max_age, gallery.edge_max_age): gallery for gallery in galleries}
    each = [_overruled(policy, gallery) for gallery in unlike.values()]
    return strictest(*each) if each else policy


def _overruled(policy: Policy, gallery: Gallery) -> Policy:
    everybody, edge = policy.everybody, policy.edge
    if gallery.max_age is not None:
        everybody = _for(gallery.max_age, everybody)
    if gallery.edge_max_age is not None:
        edge = _for(gallery.edge_max_age, edge)
    return replace(policy, everybody=everybody, edge=edge)


def _for(seconds: int, lifetime: Lifetime) -> Lifetime:
    """Return `lifetime` with `seconds` as its max-age. A stale answer is used for no longer than a fresh one."""
    return Lifetime(
        seconds, min(lifetime.stale_while_revalidate, seconds), min(lifetime.stale_if_error, seconds)
    )


def is_pending(screenshot: Screenshot) -> bool:
    """Return whether the capture has not ended: its page may change at any moment, and concerns one person so far."""
    return screenshot.state == State.PENDING
