"""Warming: URLs that caches will be asked for are requested in time: politely, from outside, as any client would.

`hot` finds the URLs, `walk` requests them, `afterwards` does both after a purge. Nothing here runs during a client's
request.
"""

from keybits.warming.afterwards import Afterwards, warm_after
from keybits.warming.hot import SAMPLE, Hot, WarmingError, declared, given, once, stored, stored_under
from keybits.warming.walk import BROWSERS, Manners, Report, Visit, base_url, warm

__all__ = [
    "BROWSERS",
    "SAMPLE",
    "Afterwards",
    "Hot",
    "Manners",
    "Report",
    "Visit",
    "WarmingError",
    "base_url",
    "declared",
    "given",
    "once",
    "stored",
    "stored_under",
    "warm",
    "warm_after",
]
