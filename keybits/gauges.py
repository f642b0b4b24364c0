"""What is measured when somebody asks: of the record, the relay, the caches in front and the store, as they are now.

It is the same for all processes, so that whoever is asked finds it where they keep it: no process reports it of itself.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from django.db import Error, connections

from keybits import changes, delivery
from keybits.conf import conf
from keybits.outages import Outage
from keybits.stores import StoreError, get_store

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from prometheus_client.core import GaugeMetricFamily

__all__ = ["Gauges"]

PATIENCE = 3
"""Seconds for which PostgreSQL may let us wait for a connection, where `OPTIONS` does not say. Prometheus waits ten."""

_unread = Outage(logging.getLogger(__name__), "the record of changes is not counted")


class Gauges:
    """A collector for a registry of prometheus-client. What cannot be found at present has no sample."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield each gauge. Two statements for each database, and three commands to the store."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - optional, as where this is registered

        recorded = GaugeMetricFamily(
            "keybits_recorded_changes", "Changes that wait to be closed, or purged.", labels=("database",)
        )
        for alias, count in _recorded():
            recorded.add_metric([alias], count)
        waiting = GaugeMetricFamily(
            "keybits_purges_waiting", "Changes that a cache has acknowledged no purge of.", labels=("purger",)
        )
        oldest = GaugeMetricFamily(
            "keybits_purges_waiting_seconds",
            "For how long the oldest of them has waited.",
            labels=("purger",),
        )
        for purger, (count, seconds) in _backlog().items():
            waiting.add_metric([purger], count)
            oldest.add_metric([purger], seconds)
        yield from (recorded, waiting, oldest)
        left = _vouched()
        yield GaugeMetricFamily(
            "keybits_store_up", "Whether the store answers.", value=float(left is not None)
        )
        if conf.RELAY != "off":
            lag = max(0.0, conf.RELAY_BOUND - left) if left else math.inf
            yield GaugeMetricFamily("keybits_relay_lag_seconds", "How far the store is behind.", value=lag)


def _recorded() -> Iterator[tuple[str, int]]:
    """Yield how many changes each database has recorded, by alias."""
    for alias in connections:
        with closing(_own(alias)) as own:
            try:
                if alias not in conf.REPLICAS and changes.is_kept(own):
                    yield alias, changes.count(own)
            except Error as error:
                _unread.note(error)


def _own(alias: str) -> BaseDatabaseWrapper:
    """Return a connection for one look, in whatever thread: of no pool, and not waiting for a server that hangs."""
    own = connections[alias].copy()
    if own.vendor == "postgresql":
        given = {name: value for name, value in own.settings_dict["OPTIONS"].items() if name != "pool"}
        own.settings_dict["OPTIONS"] = {"connect_timeout": PATIENCE, **given}
    return own


def _backlog() -> dict[str, tuple[int, float]]:
    try:
        return delivery.backlog() if conf.PURGERS else {}
    except StoreError:
        return {}


def _vouched() -> float | None:
    """Return the seconds for which a relay still vouches; None if the store does not answer."""
    try:
        return get_store().vouched()
    except StoreError:
        return None
