"""Connects the signals of drf-extensions' recipe, as its documentation has them."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class PeersConfig(AppConfig):
    name = "conformance.peers"
    label = "conformance_peers"

    def ready(self) -> None:
        if settings.ROOT_URLCONF == "conformance.peers.drf_extensions_urls":
            from conformance.peers import drf_extensions_urls  # noqa: PLC0415 - needs the models

            drf_extensions_urls.connect()
