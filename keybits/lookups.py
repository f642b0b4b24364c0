"""What code looks for in a dict: a stand-in that tells it, and is otherwise as that dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ONE", "WHOLE", "WatchedDict", "unwatched"]

ONE = ("__contains__", "__delitem__", "__getitem__", "get", "pop", "setdefault")
"""The methods of a dict that look for the key that they are given first."""
WHOLE = (
    *("__eq__", "__iter__", "__len__", "__ne__", "__or__", "__repr__", "__reversed__", "__ror__"),
    *("copy", "items", "keys", "popitem", "values"),
)
"""Those that show more than that."""
CHANGING = ("__ior__", "__setitem__", "clear", "update")
"""Those that only change what the others show."""


class WatchedDict(dict[str, Any]):
    """A stand-in for a dict, to which it passes everything on. What is done with it is told to its own methods.

    Code in C may look into a dict past its methods, as orjson does. It finds one value that it cannot write, not what
    the dict has, and cannot take it for empty either: `drf.renderers.written` then asks the methods.
    """

    def __init__(self, watched: dict[str, Any]) -> None:
        super().__init__({"watched": object()})
        self.watched = watched

    def looked_for(self, key: Any) -> None:
        """One key is looked for."""

    def looked_through(self) -> None:
        """More than one key is shown, or how many there are."""

    def changed(self) -> None:
        """What others will find is changed."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be copied and pickled as a plain dict: pickle refuses what a dict's own method says of another class."""
        return dict, (self.copy(),)


def unwatched(given: Any) -> Any:
    """Return the dict itself, however many stand-ins there are for it: nothing is told of what is done with that."""
    while isinstance(given, WatchedDict):
        given = given.watched
    return given


def _telling(name: str, tell: Callable[..., None]) -> Any:
    """Return a method of `WatchedDict` that tells what is done before it does it."""

    def method(self: WatchedDict, *given: Any, **named: Any) -> Any:
        tell(self, *given)
        found = getattr(self.watched, name)(*map(unwatched, given), **named)
        return self if found is self.watched else found  # `|=` assigns what it returns

    return method


for _name in ONE:
    setattr(WatchedDict, _name, _telling(_name, lambda self, key, *_: self.looked_for(key)))
for _name in WHOLE:
    setattr(WatchedDict, _name, _telling(_name, lambda self, *_: self.looked_through()))
for _name in CHANGING:
    setattr(WatchedDict, _name, _telling(_name, lambda self, *_: self.changed()))
