"""keybits for REST framework: the mixins and decorators of views. No other package of keybits imports REST framework.

REST framework imports this package while it reads its settings, which may name a renderer or a parser of ours. So what
itself needs REST framework's views or routers is not among these names: it is in `keybits.drf.bulk` and
`keybits.drf.problems`.
"""

from keybits.drf.caching import (
    CacheResponseAndETAGMixin,
    ListCacheResponseAndETAGMixin,
    ReadOnlyCacheResponseAndETAGMixin,
    RetrieveCacheResponseAndETAGMixin,
    cache_response_and_etag,
    expire,
)
from keybits.drf.creation import CreateETAGMixin
from keybits.drf.lists import ProjectedListMixin
from keybits.drf.members import ClosedMembersMixin
from keybits.drf.nested import NestedViewSetMixin
from keybits.drf.projection import reads
from keybits.drf.query import ClosedQueryMixin
from keybits.drf.statements import settled
from keybits.drf.throttles import DeferredThrottlesMixin
from keybits.drf.writes import ConditionalWritesMixin

__all__ = [
    "CacheResponseAndETAGMixin",
    "ClosedMembersMixin",
    "ClosedQueryMixin",
    "ConditionalWritesMixin",
    "CreateETAGMixin",
    "DeferredThrottlesMixin",
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
