"""What answers say to the caches in front that are purged, and that a purger which cannot be made is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from keybits import edge, surrogates
from keybits.cache_control import PUBLIC, Lifetime, Policy
from keybits.purge import Order, Purger

SCOPES = ["tags", "tag:chart"]
KEYS = surrogates.tags(SCOPES)
SECRET = "hunter2"
STRING = re.compile(r'"[\x20-\x21\x23-\x5b\x5d-\x7e]*"')


class Stub(Purger):
    """A cache that reads what its options say."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        fields: tuple[str, ...] = (),
        holds_by: tuple[str, ...] = (),
        most_keys: int = surrogates.MOST_KEYS,
        token: str = "",
    ) -> None:
        super().__init__(client)
        self.fields, self.holds_by, self.most_keys = fields, holds_by, most_keys
        if token == SECRET:
            raise self.misconfigured("token", "another one")

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        yield from ()


def stub(**options: Any) -> dict[str, Any]:
    return {"BACKEND": f"{__name__}.Stub", **options}


@pytest.fixture
def sent(settings: Settings) -> Any:
    """Return what is said of an answer with these purgers: `sent(stub(...), ...)`, or of a policy."""

    def fields(*purgers: dict[str, Any], policy: Policy = Policy()) -> dict[str, str]:  # noqa: B008 - it is frozen
        settings.KEYBITS_PURGERS = {f"cache{n}": options for n, options in enumerate(purgers)}
        found = edge.fields(policy, SCOPES)
        assert len({name.lower() for name, _ in found}) == len(found)
        return dict(found)

    return fields


def strings(field: str) -> tuple[str, ...]:
    """Parse a List of Strings without parameters as RFC 9651 section 4.2.1 does."""
    found, rest = [], field
    while True:
        item = STRING.match(rest)
        assert item, rest
        found.append(item[0][1:-1])
        rest = rest[item.end() :].lstrip(" \t")
        if not rest:
            return tuple(found)
        assert rest[0] == ","
        rest = rest[1:].lstrip(" \t")
        assert rest, "a trailing comma"


class TestFields:
    def test_without_purgers_there_is_cache_control_and_nothing_else(self, sent: Any) -> None:
        assert sent() == {"Cache-Control": PUBLIC}
        assert edge.key_fields(SCOPES) == []

    @pytest.mark.parametrize("name", ["CDN-Cache-Control", "Surrogate-Control"])
    def test_a_cache_with_a_field_of_its_own_holds_by_that_and_no_other_cache_does(
        self, sent: Any, name: str
    ) -> None:
        policy = Policy(edge=Lifetime(7, 8, 9))
        found = sent(stub(holds_by=(name,)), policy=policy)
        assert found == {"Cache-Control": PUBLIC, name: policy.for_the_edge()}

    def test_s_maxage_is_for_a_cache_that_reads_nothing_else(self, sent: Any) -> None:
        policy = Policy(edge=Lifetime(7))
        assert sent(stub(), policy=policy) == {"Cache-Control": policy.for_everybody(7)}
        assert "s-maxage=7" in policy.for_everybody(7)

    def test_each_cache_beside_others_is_told_in_its_own_way(self, sent: Any) -> None:
        policy = Policy(edge=Lifetime(7))
        held = ("CDN-Cache-Control", "Surrogate-Control")
        found = sent(stub(holds_by=held[:1]), stub(holds_by=held), stub(), policy=policy)
        assert found == {
            "Cache-Control": policy.for_everybody(7),
            **dict.fromkeys(held, policy.for_the_edge()),
        }

    def test_what_no_purge_may_reach_nobody_in_front_holds(self, sent: Any) -> None:
        found = sent(stub(holds_by=("Surrogate-Control",)), stub(), policy=Policy().unheld())
        assert "s-maxage=0" in found["Cache-Control"]
        assert found["Surrogate-Control"] == "max-age=0, must-revalidate"

    def test_the_cache_with_the_least_room_decides_how_many_keys_there_are(self, settings: Settings) -> None:
        few, many = stub(fields=("xkey",), most_keys=3), stub(fields=("Cache-Tag",), most_keys=200)
        settings.KEYBITS_PURGERS = {"few": few, "many": many}
        scopes = [f"tag:{n}" for n in range(100)]
        fields = dict(edge.key_fields(scopes))
        assert tuple(fields["xkey"].split()) == surrogates.tags(scopes, 3)
        assert tuple(fields["Cache-Tag"].split(",")) == surrogates.tags(scopes, 3)

    def test_a_cache_that_reads_no_keys_takes_no_room(self, settings: Settings) -> None:
        settings.KEYBITS_PURGERS = {"paths": stub(most_keys=2), "keys": stub(fields=("xkey",))}
        assert dict(edge.key_fields(SCOPES))["xkey"].split() == list(KEYS)

    def test_there_is_one_of_each_purger_until_the_settings_change(self, settings: Settings) -> None:
        settings.KEYBITS_PURGERS = {"one": stub()}
        first = edge.purgers()["one"]
        assert edge.purgers()["one"] is first
        settings.KEYBITS_PURGERS = {"two": stub()}
        assert list(edge.purgers()) == ["two"]


class TestSyntax:
    @pytest.mark.parametrize("name", ["Surrogate-Key", "xkey", "Cache-Tag", "Cache-Groups"])
    def test_every_field_can_be_written_and_read_again(self, sent: Any, name: str) -> None:
        """By spaces (Fastly, vmod xkey), by commas (Cloudflare, CloudFront), as a List of Strings (RFC 9875)."""
        field = sent(stub(fields=(name,)))[name]
        apart = {"Cache-Groups": strings, "Cache-Tag": lambda value: tuple(value.split(","))}
        assert apart.get(name, lambda value: tuple(value.split(" ")))(field) == KEYS

    def test_of_rfc_9875_section_2_is_a_list_of_strings_alone(self, sent: Any) -> None:
        field = sent(stub(fields=("Cache-Groups",)))["Cache-Groups"]
        assert strings(field) == KEYS
        assert ";" not in field, "parameters"
        assert all(len(group) <= 32 for group in strings(field)), "section 2.2 promises no more"

    def test_the_case_of_a_field_s_name_is_of_no_account(self, sent: Any) -> None:
        """RFC 9110 section 5.1."""
        assert sent(stub(fields=("XKEY",)), stub(fields=("CACHE-groups",)))["XKEY"] == " ".join(KEYS)

    def test_no_field_names_a_scope(self, sent: Any) -> None:
        found = sent(stub(fields=("Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups")))
        assert "chart" not in str(found)


class Bystander:
    """No purger."""


MISCONFIGURED = {
    "no backend": {},
    "a backend that is none": {"BACKEND": None},
    "a backend that cannot be found": {"BACKEND": "nowhere.Purger"},
    "a backend without a module": {"BACKEND": "Purger"},
    "a backend that is no purger": {"BACKEND": f"{__name__}.Bystander"},
    "a backend that is no class": {"BACKEND": "os.path.join"},
    "an unknown option": stub(speed=1),
    "an option that cannot be used": stub(),
    "an option that is no name": {**stub(), 1: 2},
    "no dict": [("BACKEND", f"{__name__}.Stub")],
}


class TestMisconfiguration:
    @pytest.mark.parametrize("options", MISCONFIGURED.values(), ids=MISCONFIGURED)
    def test_says_of_which_purger_and_nothing_that_is_secret(self, settings: Settings, options: Any) -> None:
        if isinstance(options, dict):
            options = {**options, "token": SECRET} if "BACKEND" in options else {"token": SECRET}
        settings.KEYBITS_PURGERS = {"mine": options}
        with pytest.raises(ImproperlyConfigured, match=r"^KEYBITS_PURGERS\['mine'\]") as caught:
            edge.purgers()
        assert SECRET not in repr(caught.value)
        assert SECRET not in repr(caught.value.__cause__)

    def test_says_which_field_of_keys_cannot_be_written(self, settings: Settings) -> None:
        settings.KEYBITS_PURGERS = {"mine": stub(fields=("xkey", "Edge-Keys"))}
        with pytest.raises(ImproperlyConfigured, match=r"\['mine'\]: Stub reads keys from Edge-Keys, which"):
            edge.purgers()

    @pytest.mark.parametrize("configured", [["mine"], "mine", 1, [1, 2]])
    def test_of_the_whole_setting_names_the_setting(self, settings: Settings, configured: Any) -> None:
        settings.KEYBITS_PURGERS = configured
        with pytest.raises(ImproperlyConfigured, match="KEYBITS_PURGERS has to be a dict of dicts"):
            edge.purgers()

    def test_is_said_each_time_and_forgotten_once_mended(self, settings: Settings) -> None:
        settings.KEYBITS_PURGERS = {"mine": {}}
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured):
                edge.fields(Policy(), SCOPES)
        settings.KEYBITS_PURGERS = {"mine": stub()}
        assert edge.fields(Policy(), SCOPES)


def test_a_purger_that_asks_by_its_client_itself_waits_for_no_longer_than_for_a_purge(
    settings: Any, live_server: Any
) -> None:
    """For a token, say."""
    settings.KEYBITS_PURGERS = {"own": {"BACKEND": f"{__name__}.Stub"}}
    client = edge.purgers()["own"].client
    answer = client.get(f"{live_server.url}/nothing/", timeout=None)
    assert set(answer.request.extensions["timeout"].values()) == {30}
