"""How many results a process remembers of something that clients can ask in any number of ways: a bounded dictionary.

`keybits.memory` bounds what is large by its bytes; this is for what is small.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["Bounded"]

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """A dictionary of at most `most` keys, which is emptied when a new one would be too many.

    Reading costs what reading a dictionary costs. Threads may write to it at once; one may then find what it has just
    written gone, so use the value that you wrote.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self.most and key not in self:
            self.clear()
        super().__setitem__(key, value)
