"""Every `KEYBITS_*` setting: its type, unit and default. Settings are read when used, never at import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import mail
from django.core.signals import setting_changed

__all__ = ["Conf", "conf", "defaults", "is_tested", "on_change"]


def is_tested() -> bool:
    """Say whether Django's test runner, or another that sets up its environment, runs in this process."""
    return hasattr(mail, "outbox")


def on_change(forget: Callable[[], object], *beginnings: str) -> None:
    """Have `forget` called when a test overrides a setting: any, or one whose name has one of these beginnings."""

    def heed(*, setting: str, **_: object) -> None:
        if setting.startswith(beginnings or ""):
            forget()

    setting_changed.connect(heed, weak=False)


def _own_packages() -> list[str]:
    """Return the top-level packages of the project itself: of its applications and its URLs, but of no library."""
    own = [each.name for each in apps.get_app_configs() if LIBRARIES.isdisjoint(Path(each.path).parts)]
    names = {
        name.partition(".")[0] for name in (*own, str(settings.ROOT_URLCONF)) if "." in name or name in own
    }
    return sorted(names - {"keybits"})


LIBRARIES = frozenset({"site-packages", "dist-packages"})


class Conf:
    """`conf.NAME` is `settings.KEYBITS_NAME` where the project sets it, else the default given here."""

    def __init__(self, given: object = settings) -> None:
        self._given = given

    def _get(self, name: str, default: Any) -> Any:
        return getattr(self._given, f"KEYBITS_{name}", default)

    @property
    def STORE(self) -> str:
        """Dotted path of the store's class."""
        return str(self._get("STORE", "keybits.stores.lmdb.LMDBStore"))

    @property
    def LMDB_PATH(self) -> Path:
        """Folder of the LMDB environment; on a local disk, shared by all processes of the host."""
        return Path(self._get("LMDB_PATH", "keybits.lmdb"))

    @property
    def LMDB_MAP_SIZE(self) -> int:
        """Most bytes that the LMDB environment may take on disk. Entries are dropped when they fill half of it."""
        return int(self._get("LMDB_MAP_SIZE", 256 * 1024 * 1024))

    @property
    def CACHE_ALIAS(self) -> str:
        """The django-redis cache whose connection the Redis store uses."""
        return str(self._get("CACHE_ALIAS", "default"))

    @property
    def ENTRY_TTL(self) -> int:
        """Seconds after which an entry is deleted, fresh or not: bounds how long unused entries take up space."""
        return int(self._get("ENTRY_TTL", 86_400))

    @property
    def IDEMPOTENCY_TTL(self) -> int:
        """Seconds for which an Idempotency-Key is remembered, with the answer to its request."""
        return int(self._get("IDEMPOTENCY_TTL", 86_400))

    @property
    def STAMP_LEASE(self) -> int:
        """Seconds after which a stamp expires by itself: bounds how long a change that nothing reported goes unseen."""
        return int(self._get("STAMP_LEASE", 3_600))

    @property
    def OPEN_LEASE(self) -> float:
        """Seconds for which a writer may hold scopes open: one that dies leaves them uncached for that long at most."""
        return float(self._get("OPEN_LEASE", 10))

    @property
    def RELAY(self) -> str:
        """Who closes scopes that writers did not close: `thread` (every serving process), `external` (`manage.py
        keybits_relay`) or `off` (nobody: only for databases that nothing else writes to; the default under Django's
        test runner)."""
        return str(self._get("RELAY", "off" if is_tested() else "thread"))

    @property
    def RELAY_INTERVAL(self) -> float:
        """Seconds between two looks of a relay at the record of changes; PostgreSQL wakes it sooner."""
        return float(self._get("RELAY_INTERVAL", 0.1))

    @property
    def RELAY_BOUND(self) -> float:
        """Seconds for which a relay's vouching holds: without a newer one, nothing in the store is then believed."""
        return float(self._get("RELAY_BOUND", 1))

    @property
    def STORE_RETRY(self) -> float:
        """Seconds for which a store that has failed is left alone."""
        return float(self._get("STORE_RETRY", 0.5))

    @property
    def WRITE_POLICY(self) -> str:
        """What happens to a write while the store is out of reach: `record` commits it, and a relay closes its scopes
        once it reaches the store again; `refuse` fails it before COMMIT."""
        return str(self._get("WRITE_POLICY", "record"))

    @property
    def TRACKING(self) -> str:
        """How changes are noticed: `triggers` (PostgreSQL and SQLite; by any writer) or `signals` (Django's only)."""
        return str(self._get("TRACKING", "triggers"))

    @property
    def PURGERS(self) -> dict[str, dict[str, Any]]:
        """The caches in front that are told of every change, by name: for each the `BACKEND` (dotted path of a
        `keybits.purge.Purger`) and its options. Without any, every cache revalidates each time."""
        return dict(self._get("PURGERS", {}))

    @property
    def PURGE_AGAIN(self) -> float:
        """Seconds after which an acknowledged purge is sent again, for answers that were under way; 0 for never."""
        return float(self._get("PURGE_AGAIN", 2))

    @property
    def REPLICAS(self) -> list[str]:
        """Aliases of the databases that are read replicas of the primary."""
        return list(self._get("REPLICAS", []))

    @property
    def AUDIT(self) -> str:
        """Whether fills are watched for reads that no key bit covers: `off`, `log` or `raise` (for tests)."""
        return str(self._get("AUDIT", "off"))

    @property
    def FINGERPRINT_SETTINGS(self) -> list[str]:
        """Names of more settings that shape the bytes of answers: after a change of any, no older entry is used."""
        return list(self._get("FINGERPRINT_SETTINGS", []))

    @property
    def FASTPATH(self) -> bool:
        """Whether hits and 304s are answered in front of Django's handler (`keybits.fastpath`)."""
        return bool(self._get("FASTPATH", True))

    @property
    def FASTPATH_MIDDLEWARE(self) -> list[str]:
        """Dotted paths of middlewares, beside those that keybits knows, that add the same fields to every public
        answer, whatever the request. With any other middleware, every request goes through Django."""
        return list(self._get("FASTPATH_MIDDLEWARE", []))

    @property
    def METRICS(self) -> bool:
        """Whether answers are counted by prometheus-client (`keybits.metrics`)."""
        return bool(self._get("METRICS", False))

    @property
    def MEMORY_BYTES(self) -> int:
        """Most bytes of entries, and of what the fast path has learnt, that each process keeps in its memory."""
        return int(self._get("MEMORY_BYTES", 64 * 1024 * 1024))

    @property
    def MAX_ENTRY_BYTES(self) -> int:
        """Longest body that is stored, in bytes; longer ones are computed each time."""
        return int(self._get("MAX_ENTRY_BYTES", 1024 * 1024))

    @property
    def FINGERPRINT_PACKAGES(self) -> list[str]:
        """Packages whose source shapes the bytes of answers: after a change in any, no older entry is used. By default
        those of the installed applications that were not installed by pip, and that of `ROOT_URLCONF`."""
        given = self._get("FINGERPRINT_PACKAGES", None)
        return _own_packages() if given is None else list(given)

    @property
    def BULK_LIMIT(self) -> int:
        """Most rows that a bulk operation may touch without `max`, and most items that one may create."""
        return int(self._get("BULK_LIMIT", 1_000))

    @property
    def VERSION(self) -> str:
        """Anything else that shapes the bytes of answers: after a change of it, no older entry is used."""
        return str(self._get("VERSION", ""))

    @property
    def WARM_URLS(self) -> str:
        """Dotted path of a function that yields the paths that `manage.py warm` requests first."""
        return str(self._get("WARM_URLS", ""))

    @property
    def WARM_BASE_URL(self) -> str:
        """Scheme and host from which hot pages are requested, unless the command is given others."""
        return str(self._get("WARM_BASE_URL", ""))

    @property
    def WARM_AFTER_PURGE(self) -> list[str]:
        """Scopes, with wildcards, after whose purge the entries made from them are requested again."""
        return list(self._get("WARM_AFTER_PURGE", []))


conf = Conf()
defaults = Conf(None)
"""What each setting is where nothing is set: for a project whose settings read some from elsewhere."""
