"""keybits for REST framework: the only package here that imports it."""

from keybits.drf.caching import (
    CacheResponseAndETAGMixin,
    ListCacheResponseAndETAGMixin,
    ReadOnlyCacheResponseAndETAGMixin,
    RetrieveCacheResponseAndETAGMixin,
    cache_response_and_etag,
    expire,
)
from keybits.drf.nested import NestedViewSetMixin
from keybits.drf.query import ClosedQueryMixin

__all__ = [
    "CacheResponseAndETAGMixin",
    "ClosedQueryMixin",
    "ListCacheResponseAndETAGMixin",
    "NestedViewSetMixin",
    "ReadOnlyCacheResponseAndETAGMixin",
    "RetrieveCacheResponseAndETAGMixin",
    "cache_response_and_etag",
    "expire",
]
