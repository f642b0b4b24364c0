"""The plain list over django-cacheops, which keeps what querysets found; which models is in the settings."""

from __future__ import annotations

from benchmarks.peers.plain import urlpatterns

__all__ = ["urlpatterns"]
