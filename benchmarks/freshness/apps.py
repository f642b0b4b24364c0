"""The recipe's receivers, where the recipe is what is tried."""

from __future__ import annotations

from django.apps import AppConfig


class FreshnessConfig(AppConfig):
    name = "benchmarks.freshness"
    label = "torture"

    def ready(self) -> None:
        from benchmarks.freshness import recipe  # noqa: PLC0415 - the models must be loaded

        recipe.connect()
