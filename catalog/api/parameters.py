"""Every parameter of the API, of its queries and paths: the only table, by which requests are checked and OpenAPI is
written.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.api.counts import FAR, KINDS
from catalog.models import LONGEST_ID, Orientation, State, canonical_host
from keybits.parameters import Choice, CommaList, Moment, Number, Parameter, Text, ValueRefusedError

__all__ = [
    "DEEPEST_OFFSET",
    "ID_IN_PATH",
    "INCLUDE",
    "LARGEST_PAGE",
    "PAGES",
    "SCREENSHOT_FILTERS",
    "SEARCH",
    "SLUG_IN_PATH",
    "fields",
    "ordering",
    "without",
]

LARGEST_PAGE = 100
DEEPEST_OFFSET = 10_000
SLUG = r"[-a-zA-Z0-9_]+"
SLUG_IN_PATH = r"[-a-zA-Z0-9_]{1,100}"
ID_IN_PATH = rf"[1-9][0-9]{{0,{LONGEST_ID - 1}}}"
SLUG_EXPECTED = "Write letters, digits, - and _."
LETTERS = r"\u00a1-\u167f\u1681-\u1fff\u2c00-\u2fff\u3001-\ud7ff\uf900-\uffef"
"""Letters of host names beside ASCII's, as URLs may have them; no whitespace is among them."""

LONGEST_CURSOR = 1_800  # of a title of 200 characters, each escaped to six bytes, then base64


@dataclass(frozen=True, kw_only=True)
class Offset(Number):
    """A number of items to skip; the refusal of a larger one says how to go deeper."""

    def canonical(self, value: str) -> str:
        try:
            return super().canonical(value)
        except ValueRefusedError as refusal:
            detail = f"{refusal.detail} To go deeper, follow `next` with `cursor`."
            raise ValueRefusedError(detail) from None


@dataclass(frozen=True, kw_only=True)
class Host(Text):
    """The name of a host, however it is spelt."""

    def canonical(self, value: str) -> str:
        found = canonical_host(super().canonical(value))
        if not found:
            raise ValueRefusedError(self.expected)
        return found


PAGES: tuple[Parameter, ...] = (
    Text(
        name="cursor",
        longest=LONGEST_CURSOR,
        pattern=rf"[A-Za-z0-9_-]{{24,{LONGEST_CURSOR}}}",
        expected="Take a cursor from `next` or `previous`, unchanged.",
        description="Where to continue, from `next` or `previous`. For lists of any length.",
    ),
    Number(
        name="page_size",
        minimum=1,
        maximum=LARGEST_PAGE,
        words=("max",),
        description=f"Items on a page, with `cursor` or `page`; `max` is {LARGEST_PAGE}.",
    ),
    Number(
        name="page",
        minimum=1,
        maximum=10**9,
        description="A page by its number, with a `count` of all items unless `count` says otherwise.",
    ),
    Number(
        name="limit",
        minimum=1,
        maximum=LARGEST_PAGE,
        description="Items to return, with `offset`, and a `count` unless `count` says otherwise.",
    ),
    Offset(
        name="offset",
        minimum=0,
        maximum=DEEPEST_OFFSET,
        description=f"Items to skip, at most {DEEPEST_OFFSET:,}: deeper, follow `next` from a cursor page.",
    ),
    Choice(
        name="count",
        choices=KINDS,
        description=(
            "Which `count` of all items the answer has; `count_is` then says its kind. `exact` takes time in "
            f"proportion to the items; `estimated` is exact up to {FAR:,}, and quick beyond. By default `exact` with "
            "`page`, `limit` or `offset`, and `none` with cursors."
        ),
    ),
)

SEARCH = Text(
    name="search",
    longest=200,
    description="Words that must all occur; a word also finds longer words that begin with it.",
)

INCLUDE = CommaList(
    name="include",
    most=2,
    choices=("gallery", "renditions"),
    description="What to embed: `renditions`, and the gallery as `gallery_info`.",
)

SCREENSHOT_FILTERS: tuple[Parameter, ...] = (
    Text(
        name="tag",
        longest=100,
        pattern=SLUG,
        expected=SLUG_EXPECTED,
        repeatable=True,
        description="Only screenshots with this tag; given several times, with all of them.",
    ),
    Text(
        name="gallery",
        longest=100,
        pattern=SLUG,
        expected=SLUG_EXPECTED,
        description="Only screenshots of the gallery with this slug.",
    ),
    Host(
        name="domain",
        longest=253,
        pattern=rf"[-a-zA-Z0-9_.:{LETTERS}]+",
        expected="Write a host name, such as example.com.",
        description="Only screenshots of pages of this host.",
    ),
    Moment(name="captured_after", description="Only screenshots taken at or after this moment."),
    Moment(name="captured_before", description="Only screenshots taken before this moment."),
    Number(name="min_width", description="Only pictures at least so many pixels wide."),
    Number(name="min_height", description="Only pictures at least so many pixels high."),
    Choice(
        name="orientation",
        choices=tuple(Orientation.values),
        description="Only pictures of this orientation.",
    ),
    Choice(name="status", choices=tuple(State.values), description="Only screenshots in this state."),
    CommaList(name="ids", most=100, description="Only these screenshots."),
    SEARCH,
)


def ordering(*names: str) -> Choice:
    """Return the parameter `ordering` by these fields, ascending and descending; the id breaks ties."""
    choices = tuple(f"{sign}{name}" for name in names for sign in ("", "-"))
    return Choice(name="ordering", choices=choices, description="The order of the items; `-` reverses it.")


def fields(names: tuple[str, ...]) -> CommaList:
    """Return the parameter `fields` of a representation that has these fields."""
    return CommaList(
        name="fields", most=len(names), choices=names, description="Leave out all fields but these."
    )


def without(parameters: tuple[Parameter, ...], *names: str) -> tuple[Parameter, ...]:
    """Return `parameters` without those named, which the address already decides."""
    return tuple(parameter for parameter in parameters if parameter.name not in names)
