"""What clients can ask for in any number of ways takes no more room than it was given."""

from __future__ import annotations

from keybits.bounded import Bounded


def test_a_key_too_many_empties_it_and_is_kept() -> None:
    found: Bounded[int, str] = Bounded(3)
    for number in range(4):
        found[number] = str(number)
    assert found == {3: "3"}


def test_a_key_that_is_there_may_have_another_value_where_it_is_full() -> None:
    found: Bounded[int, str] = Bounded(2)
    found[0], found[1] = "a", "b"
    found[1] = "c"
    assert found == {0: "a", 1: "c"}
