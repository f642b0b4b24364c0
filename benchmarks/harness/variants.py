"""Who is measured: one row each, ours and the peers. A new one needs a line here and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

__all__ = ["CONSTANT", "REFERENCE", "VARIANTS", "Variant", "chosen", "missing"]

HIT = b"cache-status: keybits; hit"
MISS = b"cache-status: keybits; fwd="
DJANGO = "benchmarks.peers.{}:application"
GALLERY = "gallery_api.{}:application"
REFERENCE, CONSTANT = "bare-view", "bare-callable"
"""What all are held against, and what only answers: the server's own part."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve the page.

    `wsgi` and `asgi` name its applications, "" where it has none. `cases` are what it can answer. `needs` are the
    modules without which it is left out. `core` ones are measured under every server. A `local` one reaches Redis by a
    Unix socket, the others over TCP.
    """

    key: str
    title: str
    wsgi: str = DJANGO.format("wsgi")
    asgi: str = DJANGO.format("asgi")
    environment: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[str, ...] = ("200",)
    redis: bool = False
    local: bool = False
    needs: tuple[str, ...] = ()
    core: bool = False
    ours: bool = False

    @property
    def passes_django_by(self) -> bool:
        """Whether its hits and 304s are promised to be answered in front of Django."""
        return self.environment.get("KEYBITS_FASTPATH") == "on"

    def target(self, interface: str) -> tuple[str, str]:
        """Return the interface it is served by, if possible the one asked for, and its application."""
        other = {"wsgi": "asgi", "asgi": "wsgi"}[interface]
        used = interface if getattr(self, interface) else other
        return used, getattr(self, used)

    def mark(self, case: str) -> bytes:
        """What the head of every answer to this case must have."""
        return (MISS if case == "miss" else HIT) if self.ours else b""


def _peer(key: str, title: str, peer: str, **more: object) -> Variant:
    environment = {"DJANGO_SETTINGS_MODULE": "benchmarks.peers.settings", "BENCHMARK_PEER": peer}
    return Variant(key, title, environment=environment, **more)  # type: ignore[arg-type]


def _ours(key: str, title: str, fastpath: str, store: str = "", **more: object) -> Variant:
    environment = {"DJANGO_SETTINGS_MODULE": "gallery_api.settings", "KEYBITS_FASTPATH": fastpath}
    environment |= {"KEYBITS_STORE": store} if store else {}
    interfaces = {"wsgi": GALLERY.format("wsgi"), "asgi": GALLERY.format("asgi")}
    cases = ("200", "coded", "304", "miss")
    return Variant(key, title, environment=environment, cases=cases, ours=True, **interfaces, **more)  # type: ignore[arg-type]


FAST = ("keybits.fastpath",)
NEAR = ("keybits.fastpath", "keybits.stores.near")
VARIANTS = (
    Variant(
        CONSTANT,
        "bare callable",
        "benchmarks.peers.bare:application",
        "benchmarks.peers.bare:asgi_application",
        core=True,
    ),
    _peer(REFERENCE, "bare Django view", "bare_view", core=True),
    _ours("fast-lmdb", "**fast path, LMDB**", "on", needs=FAST, core=True),
    _ours("fast-redis", "**fast path, Redis strict**", "on", redis=True, needs=FAST, core=True),
    _ours(
        "fast-redis-local",
        "**fast path, Redis strict, by a Unix socket**",
        "on",
        redis=True,
        local=True,
        needs=FAST,
    ),
    _ours(
        "fast-near",
        "**fast path, Redis near**",
        "on",
        "keybits.stores.near.NearRedisStore",
        redis=True,
        needs=NEAR,
    ),
    _ours("mixin-lmdb", "**viewset mixin only, LMDB**", "off", core=True),
    _ours("mixin-redis", "**viewset mixin only, Redis**", "off", redis=True),
    _ours(
        "mixin-redis-local", "**viewset mixin only, Redis, by a Unix socket**", "off", redis=True, local=True
    ),
    Variant(
        "fastapi",
        "FastAPI + redis.asyncio, cached bytes",
        "",
        "benchmarks.peers.fastapi_bytes:application",
        cases=("200", "304"),
        redis=True,
        needs=("fastapi",),
        core=True,
    ),
    _peer(
        "cache-page",
        "`cache_page` + `ConditionalGetMiddleware`",
        "page_cache",
        cases=("200", "304", "miss"),
        redis=True,
    ),
    _peer(
        "drf-extensions",
        "drf-extensions as documented",
        "recipe",
        cases=("200", "304", "miss"),
        redis=True,
    ),
    _peer(
        "cacheops", "django-cacheops under the plain list", "queryset_cache", redis=True, needs=("cacheops",)
    ),
    _peer("plain", "plain REST framework list", "plain"),
)


def missing(variant: Variant) -> list[str]:
    """Return the modules that the variant needs and that are not installed."""
    return [name for name in variant.needs if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def chosen(keys: list[str]) -> tuple[list[Variant], dict[str, str]]:
    """Return the variants of these keys (all, where there are none), and why others are left out.

    The reference is always among them.
    """
    wanted = [variant for variant in VARIANTS if not keys or variant.key in {REFERENCE, *keys}]
    lacking = {variant.key: missing(variant) for variant in wanted}
    reasons = {key: f"{', '.join(names)} is not installed" for key, names in lacking.items() if names}
    return [variant for variant in wanted if variant.key not in reasons], reasons
