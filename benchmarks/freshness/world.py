"""What is written and read: a few screenshots whose fields carry version numbers, and how those are encoded.

| field | version | changed by |
| --- | --- | --- |
| `title` of a screenshot | `v7.writer-12` | everything that changes a row; names its author |
| `tags` of a screenshot | a Gray code, `b00`..`b11`: each step adds or removes one tag | many-to-many changes |
| `position` of a screenshot | itself | SQL that counts it up, outside any transaction |
| `title` of a gallery | as a screenshot's | renaming, which every list shows or may show |

A move to another gallery is a change of the title's version too: the journal says where each version is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["BITS", "GALLERIES", "World", "bit", "parse_title", "tags_version", "title", "toggled"]

GALLERIES = ("ga", "gb", "gc", "quiet")
BITS = 12

SEED = f"""
import json
from catalog.models import Gallery, Screenshot, Tag
galleries = [Gallery.objects.create(slug=slug, title="v0.-") for slug in {GALLERIES!r}]
Tag.objects.bulk_create(Tag(slug=f"b{{n:02}}", name=f"b{{n:02}}") for n in range({BITS}))
rows = {{"django": [], "external": []}}
for number in range(16):
    kind = "external" if number % 4 == 3 else "django"
    row = Screenshot.objects.create(
        gallery=galleries[number % 4 if kind == "external" else number % 3], title="v0.-", position=0,
        source_url=f"https://site{{number % 3}}.example/{{number}}",
    )
    rows[kind].append([row.pk, row.gallery.slug])
print(json.dumps(rows))
"""
"""Run it where the models are; it prints the rows. Rows of `external` are written by nobody else."""


@dataclass(frozen=True)
class World:
    """The rows: id and first gallery, those that Django writes and those that others write."""

    django: list[tuple[int, str]]
    external: list[tuple[int, str]]

    @classmethod
    def load(cls, text: str) -> World:
        parts = json.loads(text)
        return cls(*([(row, slug) for row, slug in parts[kind]] for kind in ("django", "external")))

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @property
    def rows(self) -> list[tuple[int, str]]:
        return [*self.django, *self.external]


def title(version: int, author: str) -> str:
    return f"v{version}.{author}"


def parse_title(text: str) -> tuple[int, str]:
    """Return the version and the author of a title."""
    version, _, author = text.partition(".")
    return int(version[1:]), author


def gray(number: int) -> int:
    return number ^ (number >> 1)


def ungray(code: int) -> int:
    number = 0
    while code:
        number ^= code
        code >>= 1
    return number


def bit(number: int, place: int) -> bool:
    """Say whether version `number` has the tag of this place."""
    return bool(gray(number) >> place & 1)


def toggled(number: int) -> int:
    """Return the place of the tag that comes or goes on the way from version `number` to the next."""
    return (gray(number) ^ gray(number + 1)).bit_length() - 1


def tags_version(slugs: list[Any]) -> int:
    """Return the version that a screenshot's tags stand for."""
    return ungray(sum(1 << int(slug[1:]) for slug in slugs))
