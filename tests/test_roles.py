"""A role that owns nothing, beside the one that migrates: it serves with what the documentation has it granted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.db import ProgrammingError, connection, transaction

from catalog.models import Gallery, Screenshot, Tag
from keybits import changes, selections
from keybits.relay import Relay

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
ROLE = "gallery"


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture(autouse=True)
def _serving() -> Iterator[None]:
    """The connection as the role that the documentation tells how to make."""
    (block,) = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.S)
    run(f"DROP ROLE IF EXISTS {ROLE}", f"CREATE ROLE {ROLE}", *filter(str.strip, block.split(";")))
    run(f"SET ROLE {ROLE}")
    yield
    run("RESET ROLE", f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


def test_it_owns_nothing() -> None:
    with pytest.raises(ProgrammingError, match="must be owner"):
        run("ALTER TABLE catalog_tag ADD COLUMN more text")


def test_its_relay_vouches_and_clears_the_record() -> None:
    Tag.objects.create(slug="x", name="X")
    relay = Relay()
    assert relay.once() > 0
    relay.sweep()
    assert changes.recorded(connection) == []


def test_it_may_write_what_the_triggers_record() -> None:
    owner = get_user_model().objects.create(username="owner")
    gallery = Gallery.objects.create(slug="g", title="G", owner=owner, visibility="public")
    shot = Screenshot.objects.create(
        gallery=gallery, title="S", source_url="https://one.example/", state="ready"
    )
    shot.tags.add(Tag.objects.create(slug="x", name="X"))
    with transaction.atomic(), selections.hold(Screenshot.objects.all()) as chosen:
        assert chosen.rows.update(title="T") == 1
    gallery.delete()
    owner.delete()
    assert not Screenshot.objects.exists()
