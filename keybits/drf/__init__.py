"""keybits for REST framework: the only package here that imports it."""

from keybits.drf.caching import (
    CacheResponseAndETAGMixin,
    ListCacheResponseAndETAGMixin,
    ReadOnlyCacheResponseAndETAGMixin,
    RetrieveCacheResponseAndETAGMixin,
    cache_response_and_etag,
    expire,
)
from keybits.drf.lists import ProjectedListMixin
from keybits.drf.nested import NestedViewSetMixin
from keybits.drf.projection import reads
from keybits.drf.query import ClosedQueryMixin
from keybits.drf.statements import settled

__all__ = [
    "CacheResponseAndETAGMixin",
    "ClosedQueryMixin",
    "ListCacheResponseAndETAGMixin",
    "NestedViewSetMixin",
    "ProjectedListMixin",
    "ReadOnlyCacheResponseAndETAGMixin",
    "RetrieveCacheResponseAndETAGMixin",
    "cache_response_and_etag",
    "expire",
    "reads",
    "settled",
]
