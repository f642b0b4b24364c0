"""Migrations go back and forth on both databases, with the triggers that come and go with their tables."""

from __future__ import annotations

from stacks.live import Deployments


def test_the_catalogue_can_be_migrated_to_nothing_and_again(deployments: Deployments) -> None:
    made = deployments.make({})
    try:
        made.manage("migrate", "catalog", "zero", "--verbosity", "0")
        made.manage("migrate", "--verbosity", "0")
    finally:
        deployments.discard(made)
