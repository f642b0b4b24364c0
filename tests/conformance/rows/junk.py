"""Cache busting: addresses without end must not fill the cache, nor push out what is asked for.

A column is asked until its cache has grown, so that one that grows is not asked hundreds of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, permutations

from conformance.columns import Column
from conformance.matrix import expect, row

SECTION = "Cache busting"
MANY, FEW = 200, 40
SERVED = "screenshots/?page=2&page_size=3"
QUERY = ("page=2", "page_size=3", "utm_source=a", "utm_medium=b", "gclid=c", "fbclid=d", "_=1", "utm_id=e")


def grown(at: Column, targets: Iterable[str]) -> None:
    """Ask for all targets, in batches that get larger; the cell says when the cache had grown."""
    _served(at)
    before, waiting = at.entries(), iter(targets)
    for size in (20, None):
        batch = list(islice(waiting, size))
        expect(at.flood(batch) == len(batch), "some were not answered")
        expect(at.entries() <= before, "grows with the addresses")


def _served(at: Column) -> None:
    found = at.ask(SERVED).status
    expect(found == 200, found)


def _in_turn(*forms: str, many: int = FEW) -> Iterator[str]:
    """Yield each form with a number, for each number."""
    return (form.format(number) for number in range(many) for form in forms)


def queries_of_one_list(many: int) -> Iterator[str]:
    """Yield that many junk, tracked and permuted queries of one list, in turn."""
    numbered = _in_turn(f"{SERVED}&junk={{0}}", f"{SERVED}&utm_campaign={{0}}", many=many)
    permuted = (f"screenshots/?{'&'.join(pairs)}" for pairs in permutations(QUERY))
    three = zip(permuted, numbered, numbered, strict=False)
    return islice((target for targets in three for target in targets), many)


@row(SECTION)
def queries_without_end(at: Column) -> None:
    """Two hundred junk, tracking and permuted queries of one list add no entry (the test asks ours ten thousand)."""
    grown(at, queries_of_one_list(MANY))


@row(SECTION)
def other_escapes_of_one_query(at: Column) -> None:
    """Other escapes of one query add no entry: `p%61ge_size=%33`."""
    letters = [(letter, f"%{ord(letter):02x}") for letter in "page_size"]
    spelt = (
        "".join(pair[number >> place & 1] for place, pair in enumerate(letters)) for number in range(FEW)
    )
    grown(at, (f"screenshots/?page=2&{name}=%33" for name in spelt))


@row(SECTION)
def pages_that_are_not_there(at: Column) -> None:
    """Pages past the end, and cursors that are none, add no entry."""
    grown(at, _in_turn("screenshots/?page=9{0}", "screenshots/?cursor=x{0}"))


@row(SECTION)
def things_that_are_not_there(at: Column) -> None:
    """Details and addresses that are not there add no entry."""
    grown(at, _in_turn("galleries/none-{0}/", "nowhere/{0}/"))


def _fields(at: Column, name: str, form: str) -> None:
    _served(at)
    before = at.entries()
    for number in range(20):
        at.ask(SERVED, (name, form.format(number)))
    expect(at.entries() <= before, "grows with the values")


@row(SECTION)
def accept_encodings_of_all_kinds(at: Column) -> None:
    """Accept-Encodings of all kinds add no entry."""
    _fields(at, "Accept-Encoding", "gzip;q=0.{0}, x-{0}")


@row(SECTION)
def accepts_and_languages_of_all_kinds(at: Column) -> None:
    """Accepts and Accept-Languages of all kinds add no entry."""
    _fields(at, "Accept", "application/json; v={0}, */*;q=0.1")
    _fields(at, "Accept-Language", "x-{0}")


@row(SECTION)
def user_agents_and_referrers_of_all_kinds(at: Column) -> None:
    """User-Agents and Referers add no entry."""
    _fields(at, "User-Agent", "agent/{0}")
    _fields(at, "Referer", "https://elsewhere.example/{0}")


@row(SECTION)
def cookies_of_no_account(at: Column) -> None:
    """Cookies that decide nothing, of analytics for example, add no entry."""
    _fields(at, "Cookie", "_ga=GA1.{0}")


@row(SECTION)
def credentials_that_are_wrong(at: Column) -> None:
    """Credentials that are wrong add no entry."""
    _fields(at, "Authorization", "Token wrong-{0}")


@row(SECTION)
def ports_of_our_host(at: Column) -> None:
    """Our Host with ports of all kinds adds no entry."""
    _fields(at, "Host", "localhost:{0}")
