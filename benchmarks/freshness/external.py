"""A writer that knows nothing of Django: psycopg or sqlite3, as a script or another service would use them."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.freshness.client import API, Client
from benchmarks.freshness.journal import Journal, clock
from benchmarks.freshness.orders import Orders
from benchmarks.freshness.world import World, bit, parse_title, tags_version, title, toggled

PAUSE = 0.1
TITLE = "SELECT title FROM catalog_screenshot WHERE id = {0}"
RENAME = "UPDATE catalog_screenshot SET title = '{1}' WHERE id = {0}"
COUNT_UP = "UPDATE catalog_screenshot SET position = position + 1 WHERE id = {0} RETURNING position"
TAGS = "SELECT t.slug FROM catalog_tag t JOIN catalog_screenshot_tags s ON s.tag_id = t.id WHERE s.screenshot_id = {0}"
ADD = "INSERT INTO catalog_screenshot_tags (screenshot_id, tag_id) SELECT {0}, id FROM catalog_tag WHERE slug = '{1}'"
REMOVE = (
    "DELETE FROM catalog_screenshot_tags WHERE screenshot_id = {0} "
    "AND tag_id = (SELECT id FROM catalog_tag WHERE slug = '{1}')"
)


class External:
    """Writes rows that nobody else writes, under the database's own locks."""

    def __init__(self, url: str, name: str, journal: Journal, randomly: random.Random) -> None:
        self.name = name
        self.journal = journal
        self.randomly = randomly
        self.number = 0
        self._lite = url.startswith("sqlite")
        self.connection: Any = (
            sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20, isolation_level=None)
            if self._lite
            else psycopg.connect(url, autocommit=True)
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE" if self._lite else "BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def trying(self, *version: Any) -> None:
        self.number += 1
        self.journal.tell("try", n=self.number, t=clock(), how="external", w=[version])

    def rows(self, sql: str) -> list[Any]:
        return list(self.connection.execute(sql).fetchall())

    def write(self, row: int, gallery: str) -> None:
        way = self.randomly.choice([self.rename, self.rename, self.tag, self.count_up, self.roll_back])
        try:
            way(row, gallery)
            self.journal.tell("ack", n=self.number, t=clock())
        except ZeroDivisionError:
            self.journal.tell("abort", n=self.number, t=clock())

    def rename(self, row: int, gallery: str) -> None:
        with self.transaction():
            self._rename(row, gallery)

    def roll_back(self, row: int, gallery: str) -> None:
        with self.transaction():
            self._rename(row, gallery)
            raise ZeroDivisionError

    def _rename(self, row: int, gallery: str) -> None:
        lock = "" if self._lite else " FOR UPDATE"
        ((old,),) = self.rows(TITLE.format(row) + lock)
        author, version = f"{self.name}-{self.number + 1}", parse_title(old)[0] + 1
        self.trying(row, "title", version, author, gallery)
        self.connection.execute(RENAME.format(row, title(version, author)))

    def tag(self, row: int, gallery: str) -> None:
        with self.transaction():
            version = tags_version([slug for (slug,) in self.rows(TAGS.format(row))])
            place = toggled(version)
            self.trying(row, "tags", version + 1, "", "")
            self.connection.execute((ADD if bit(version + 1, place) else REMOVE).format(row, f"b{place:02}"))

    def count_up(self, row: int, gallery: str) -> None:
        self.trying(row, "position", -1, "", "")
        ((version,),) = self.rows(COUNT_UP.format(row))
        self.journal.tell("known", n=self.number, v=version)


def main() -> None:
    told = json.loads(sys.argv[1])
    randomly = random.Random(told["seed"])  # noqa: S311 - not for secrets
    journal = Journal(Path(told["journal"]))
    rows = World.load(told["world"]).external
    external = External(told["database"], told["name"], journal, randomly)
    client = Client(told["ports"], journal, randomly)
    orders = Orders()
    with closing(external.connection):
        while clock() < told["until"] and "stop" not in orders.new():
            row, gallery = randomly.choice(rows)
            external.write(row, gallery)
            if randomly.random() < 0.5:
                client.get(f"{API}screenshots/{row}/")
            time.sleep(min(randomly.expovariate(1 / PAUSE), 0.5))


if __name__ == "__main__":
    main()
