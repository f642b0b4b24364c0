"""drf-extensions 0.8.0 as its documentation has it: the recipe is in `drf_extensions_urls`."""

from __future__ import annotations

from conformance.peers.base import *  # noqa: F403

ROOT_URLCONF = "conformance.peers.drf_extensions_urls"
