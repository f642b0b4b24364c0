"""A writer: a process that writes in every way that Django has, and says in its journal what, and when.

It tells its journal of each version before the transaction can commit, and of the acknowledgement once the write
has returned. On order it dies between two steps of a COMMIT, or lets its COMMIT hang.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.freshness.settings")
if os.environ.get("TORTURE_STORE") == "unwritable":  # the file of the journal is no folder
    os.environ["TORTURE_KEYBITS_LMDB_PATH"] = json.dumps(json.loads(sys.argv[1])["journal"] + "/keybits.lmdb")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import DatabaseError, connection, transaction  # noqa: E402
from django.db.models import F  # noqa: E402

from benchmarks.freshness.client import API, Client  # noqa: E402
from benchmarks.freshness.journal import Journal, clock  # noqa: E402
from benchmarks.freshness.orders import Orders  # noqa: E402
from benchmarks.freshness.world import GALLERIES, World, bit, parse_title, tags_version, title, toggled  # noqa: E402
from catalog.curation import bulk  # noqa: E402
from catalog.models import BulkOperation, Gallery, Screenshot, Tag  # noqa: E402
from keybits import relay_thread  # noqa: E402
from keybits.stores import get_store  # noqa: E402

PAUSE = 0.05
"""Mean seconds between two writes of a busy writer; now and then one rests."""


class RolledBackError(Exception):
    """Ends a transaction that was never meant to commit."""


class Writer:
    """Writes rows of the world, one write at a time."""

    def __init__(self, name: str, world: World, journal: Journal, randomly: random.Random) -> None:
        self.name = name
        self.journal = journal
        self.randomly = randomly
        self.ids = sorted(row for row, _ in world.django)
        self.tags = {tag.slug: tag for tag in Tag.objects.all()}
        self.number = 0
        self.slow_commit = ""
        self._open_try = 0

    # --- What is told ---------------------------------------------------------------------------------------

    def trying(self, how: str, *versions: list[Any]) -> None:
        """Tell of versions that may be seen from now on: `[row, field, version, author, gallery]`."""
        self.number += 1
        self._open_try = self.number
        self.journal.tell("try", n=self.number, t=clock(), how=how, w=versions)

    def next_author(self) -> str:
        return f"{self.name}-{self.number + 1}"

    def remark(self, record: logging.LogRecord) -> bool:
        """Hear keybits say that a change was left to the relay, before COMMIT or after it."""
        if "out of reach" in record.msg:
            self.journal.tell("recorded", n=self._open_try)
        elif "stay open" in record.msg:
            self.journal.tell("unclosed", n=self._open_try)
        return False

    # --- Ways to write --------------------------------------------------------------------------------------

    def write(self) -> int:
        """Write once, in any of the ways; return the row, and 0 where nothing was acknowledged."""
        way = self.randomly.choices(list(WAYS), list(WAYS.values()))[0]
        before = self.number
        try:
            row = way(self)
        except RolledBackError:
            self.journal.tell("abort", n=self.number, t=clock())
            return 0
        except DatabaseError as error:
            self.journal.tell("error", n=self.number, t=clock(), why=repr(error)[:200])
            connection.close_if_unusable_or_obsolete()
            return 0
        if self.number > before:
            self.journal.tell("ack", n=self.number, t=clock())
        return row

    def locked(self) -> Screenshot:
        return Screenshot.objects.select_for_update(of=("self",)).get(pk=self.randomly.choice(self.ids))

    def renamed(self, row: Screenshot, how: str) -> Screenshot:
        """Give the row, which is locked, its next title."""
        author = self.next_author()
        version = parse_title(row.title)[0] + 1
        row.title = title(version, author)
        self.trying(how, [row.pk, "title", version, author, row.gallery.slug])
        return row

    def commits(self) -> None:
        """Do what was ordered for this COMMIT: let it hang, before it is durable or after."""
        order, self.slow_commit = self.slow_commit, ""
        with connection.cursor() as cursor:
            if order == "slow-before":
                cursor.execute("INSERT INTO torture_pause VALUES (3)")
            elif order == "slow-after":
                cursor.execute("SET LOCAL synchronous_commit = on")

    def save(self) -> int:
        with transaction.atomic():
            row = self.renamed(self.locked(), "save")
            row.save(update_fields=self.randomly.choice([None, ["title"]]))
            self.commits()
        return row.pk

    def update(self) -> int:
        with transaction.atomic():
            row = self.renamed(self.locked(), "update")
            Screenshot.objects.filter(pk=row.pk).update(title=row.title)
        return row.pk

    def raw_sql(self) -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            row = self.renamed(self.locked(), "raw")
            cursor.execute("UPDATE catalog_screenshot SET title = %s WHERE id = %s", [row.title, row.pk])
        return row.pk

    def bulk_update(self) -> int:
        with transaction.atomic():
            some = sorted(self.randomly.sample(self.ids, 3))
            rows = [Screenshot.objects.select_for_update(of=("self",)).get(pk=row) for row in some]
            author, versions = self.next_author(), []
            for row in rows:
                version = parse_title(row.title)[0] + 1
                row.title = title(version, author)
                versions.append([row.pk, "title", version, author, row.gallery.slug])
            self.trying("bulk_update", *versions)
            Screenshot.objects.bulk_update(rows, ["title"])
        return self.randomly.choice(some)

    def move(self) -> int:
        with transaction.atomic():
            row = self.locked()
            row.gallery = Gallery.objects.get(slug=self.randomly.choice(GALLERIES[:-1]))
            self.renamed(row, "move").save()
        return row.pk

    def tag(self) -> int:
        with transaction.atomic():
            row = self.locked()
            self._toggle(row)
        return row.pk

    def _toggle(self, row: Screenshot) -> None:
        """Add or remove the one tag that leads to the next version, from either side."""
        version = tags_version(list(row.tags.values_list("slug", flat=True)))
        place = toggled(version)
        self.trying("tag", [row.pk, "tags", version + 1, "", ""])
        tag = self.tags[f"b{place:02}"]
        near, far = (row.tags, tag) if self.randomly.random() < 0.5 else (tag.screenshots, row)
        (near.add if bit(version + 1, place) else near.remove)(far)

    def count_up(self) -> int:
        """One statement outside any transaction; its version is known when it returns."""
        row = self.randomly.choice(self.ids)
        self.trying("count", [row, "position", -1, "", ""])
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE catalog_screenshot SET position = position + 1 WHERE id = %s RETURNING position",
                [row],
            )
            (version,) = cursor.fetchone()
        self.journal.tell("known", n=self.number, v=version)
        return row

    def count_up_by_orm(self) -> int:
        with transaction.atomic():
            row = self.locked()
            self.trying("F", [row.pk, "position", row.position + 1, "", ""])
            Screenshot.objects.filter(pk=row.pk).update(position=F("position") + 1)
        return row.pk

    def bulk_count_up(self) -> int:
        """One UPDATE of several rows, by a formula, as the API's bulk operations do it."""
        with transaction.atomic():
            some = Screenshot.objects.filter(pk__in=self.randomly.sample(self.ids, 3))
            rows = list(some.order_by("pk").select_for_update(of=("self",)))
            self.trying("bulk", *([row.pk, "position", row.position + 1, "", ""] for row in rows))
            self._operate(some, bulk.Changes(formulas={"position": bulk.Added(1)}))
        return self.randomly.choice(rows).pk

    def bulk_tag(self) -> int:
        """Add or remove a tag by the statements of a bulk operation."""
        with transaction.atomic():
            row = self.locked()
            version = tags_version(list(row.tags.values_list("slug", flat=True)))
            place = toggled(version)
            self.trying("bulk tag", [row.pk, "tags", version + 1, "", ""])
            slug = frozenset({f"b{place:02}"})
            tagging = bulk.Tagging(added=slug) if bit(version + 1, place) else bulk.Tagging(removed=slug)
            self._operate(Screenshot.objects.filter(pk=row.pk), bulk.Changes(tagging=tagging))
        return row.pk

    @staticmethod
    def _operate(rows: Any, changes: bulk.Changes) -> None:
        record = BulkOperation(username="writer", path="/")
        bulk.update(rows=rows, actor=User(is_staff=True), changes=changes, most=3, record=record)

    def rename_gallery(self) -> int:
        with transaction.atomic():
            row = Gallery.objects.select_for_update(of=("self",)).get(slug=self.randomly.choice(GALLERIES))
            author, version = self.next_author(), parse_title(row.title)[0] + 1
            row.title = title(version, author)
            self.trying("gallery", [row.slug, "title", version, author, ""])
            row.save()
        return self.randomly.choice(self.ids)

    def slow(self) -> int:
        with transaction.atomic():
            row = self.renamed(self.locked(), "slow")
            row.save()
            time.sleep(self.randomly.uniform(0.05, 0.3))
        return row.pk

    def rolled_back(self) -> int:
        with transaction.atomic():
            self.renamed(self.locked(), "rollback").save()
            raise RolledBackError

    def half_rolled_back(self) -> int:
        with transaction.atomic():
            row = self.locked()
            before = row.title
            try:
                with transaction.atomic():
                    self.renamed(row, "savepoint").save()
                    raise RolledBackError
            except RolledBackError:
                self.journal.tell("abort", n=self.number, t=clock())
            row.title = before
            self.renamed(row, "half").save()
        return row.pk


WAYS: dict[Callable[[Writer], int], int] = {
    Writer.save: 18,
    Writer.update: 10,
    Writer.raw_sql: 10,
    Writer.bulk_update: 8,
    Writer.move: 10,
    Writer.tag: 18,
    Writer.count_up: 8,
    Writer.count_up_by_orm: 4,
    Writer.bulk_count_up: 6,
    Writer.bulk_tag: 6,
    Writer.rename_gallery: 2,
    Writer.slow: 4,
    Writer.rolled_back: 5,
    Writer.half_rolled_back: 3,
}


def die_between(order: str) -> None:
    """Have this process killed by itself: between `open` and COMMIT, or between COMMIT and `close`."""
    store: Any = get_store()
    store = getattr(store, "store", store)
    name = "open" if order == "die-after-open" else "close"
    original = getattr(store, name)

    def step(*arguments: Any) -> None:
        if threading.current_thread() is not threading.main_thread():  # the relay's
            original(*arguments)
            return
        if name == "open":
            original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(store, name, step)


def main() -> None:
    told = json.loads(sys.argv[1])
    randomly = random.Random(told["seed"])  # noqa: S311 - not for secrets
    journal = Journal(Path(told["journal"]))
    writer = Writer(told["name"], World.load(told["world"]), journal, randomly)
    transactions = logging.getLogger("keybits.transactions")
    transactions.setLevel(logging.DEBUG)
    transactions.addFilter(writer.remark)
    client = Client(told["ports"], journal, randomly)
    if told["relay"]:  # as in a process that serves, too
        relay_thread.ensure_running()
    orders = Orders()
    while clock() < told["until"]:
        new = orders.new()
        if "stop" in new:
            break
        for order in new:
            if order.startswith("die"):
                die_between(order)
            else:
                writer.slow_commit = order
        if (row := writer.write()) and randomly.random() < 0.5:
            client.get(f"{API}screenshots/{row}/")
        rests = randomly.random() < 0.05
        time.sleep(randomly.uniform(0.5, 2) if rests else min(randomly.expovariate(1 / PAUSE), 0.5))


if __name__ == "__main__":
    main()
