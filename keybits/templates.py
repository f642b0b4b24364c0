"""What a declared template says: the scope that a row is part of, and which of the row's changes count.

`gallery:{slug}` names a scope by a field, `{author__name}` by a field of a related row. `takedown:{slug} on visibility`
counts fewer changes: of the fields named, and the deletion of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from string import Formatter

__all__ = ["Template", "parse"]


@dataclass(frozen=True, slots=True)
class Template:
    """A `scope` with `{fields}`, the `paths` of these, and the fields `watched`; none where any change counts."""

    scope: str
    paths: tuple[str, ...]
    watched: tuple[str, ...] = ()


@lru_cache(maxsize=1024)
def parse(text: str) -> Template:
    """Return the parsed template."""
    scope, _, watched = text.partition(" on ")
    paths = tuple(name for _, name, _, _ in Formatter().parse(scope) if name)
    return Template(scope, paths, tuple(name.strip() for name in watched.split(",") if name.strip()))
