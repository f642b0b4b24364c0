"""What a deployment has installed: what it requires, its users' extras and a server, and nothing that only tests need.

`sitecustomize` beside this hides the rest from the processes that get this environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["HIDDEN", "environment"]

HIDDEN = "KEYBITS_TEST_WITHOUT"
"""The variable that names what is hidden from a process, with commas between."""

DEPLOYED = ("keybits-gallery[cloudfront,jwt,metrics]", "gunicorn", "uvicorn")


def environment(*requirements: str, beside: Iterable[Path] = ()) -> dict[str, str]:
    """Return the variables with which Python finds what is deployed, and nothing else that is installed.

    That is what `requirements` need, or what the project does; and the packages in the folders `beside`.
    """
    hidden = set(_others(requirements or DEPLOYED)).difference(*map(os.listdir, beside))
    path = os.pathsep.join(map(str, [Path(__file__).parent, *beside]))
    return {"PYTHONPATH": path, HIDDEN: ",".join(sorted(hidden))}


@cache
def _others(requirements: tuple[str, ...]) -> tuple[str, ...]:
    deployed = {name for given in requirements for name in _with_what_it_requires(Requirement(given))}
    return tuple(
        module
        for module, distributions in packages_distributions().items()
        if deployed.isdisjoint(map(canonicalize_name, distributions))
    )


@cache
def _required(name: str, extras: frozenset[str]) -> tuple[Requirement, ...]:
    try:
        found = map(Requirement, requires(name) or ())
    except PackageNotFoundError:
        return ()
    return tuple(
        one
        for one in found
        if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
    )


def _with_what_it_requires(requirement: Requirement) -> Iterator[str]:
    waiting, seen = [requirement], set()
    while waiting:
        one = waiting.pop()
        if (asked := (canonicalize_name(one.name), frozenset(one.extras))) not in seen:
            seen.add(asked)
            yield asked[0]
            waiting += _required(*asked)
