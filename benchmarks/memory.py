"""Does a scan of a million addresses that nobody asks for twice fill the memory? Process and store, while it goes on.

The application is called directly, for the smallest pages that there are: what is asked is what remains of them.
After the first few thousand what remains of each is put where the application has put it, without making the page a
million times: into the store, the entries in memory and the fast path, by the functions that do so for a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis

from benchmarks.harness.direct import Direct
from benchmarks.harness.options import Options
from benchmarks.harness.tables import table
from benchmarks.harness.variants import Variant
from benchmarks.harness.world import Deployment, World

__all__ = ["Scan", "measure", "written"]

SMALLEST = "/api/v1/screenshots/?fields=id&page_size=1"
STEPS = 10
MEGABYTE = 1024 * 1024
REDIS_BYTES = 64 * MEGABYTE
LMDB_BYTES = 256 * MEGABYTE
"""The default of `KEYBITS_LMDB_MAP_SIZE`."""
PROCESS_BYTES = 64 * MEGABYTE
"""The default of `KEYBITS_MEMORY_BYTES`."""
SLACK = 32 * MEGABYTE
"""Bytes by which a process may grow beyond its bound: what an allocator does not give back."""
FIRST = 20


@dataclass
class Scan:
    """Bytes before the scan, and at each tenth of it: of the process, apart from files, and of its store."""

    before: int
    limit: int
    process: list[int] = field(default_factory=list)
    store: list[int] = field(default_factory=list)

    def grown(self) -> int:
        return max(self.process) - self.before

    def is_bounded(self) -> bool:
        return self.grown() <= PROCESS_BYTES + SLACK and max(self.store) <= self.limit


def measure(world: World, variants: list[Variant], options: Options) -> dict[str, Scan]:
    return {
        variant.key: _scan(world, variant, options) for variant in variants if variant.key.startswith("fast-")
    }


def _scan(world: World, variant: Variant, options: Options) -> Scan:
    deployment = world.deployment(variant, "memory")
    worker = Direct(variant, deployment)
    worker.start("wsgi")
    try:
        worker.read()
        scan = Scan(_asked(worker, FIRST), _limit(deployment))
        scan.process.append(_asked(worker, options.asked))
        scan.store.append(_held(deployment))
        for _ in range(STEPS):
            scan.process.append(_filled(worker, max(1, (options.urls - options.asked) // STEPS)))
            scan.store.append(_held(deployment))
    finally:
        worker.end()
    return scan


def _asked(worker: Direct, count: int) -> int:
    """Ask for so many new addresses, and return the bytes that the process then holds."""
    return int(worker.order("scan", SMALLEST, count)["anonymous"])


def _filled(worker: Direct, count: int) -> int:
    """Put so many more there, and return the bytes that the process then holds."""
    return int(worker.order("fill", SMALLEST, count)["anonymous"])


def _limit(deployment: Deployment) -> int:
    """Set the store's bound, where that is not the product's own setting, and return it in bytes."""
    if deployment.redis is None:
        return LMDB_BYTES
    with redis.Redis(port=deployment.redis.port) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", REDIS_BYTES)
    return REDIS_BYTES


def _held(deployment: Deployment) -> int:
    if deployment.redis is None:
        return _on_disk(deployment.directory / "keybits.lmdb")
    with redis.Redis(port=deployment.redis.port) as client:
        return int(client.info("memory")["used_memory"])


def _on_disk(directory: Path) -> int:
    """Return what the files take, not how long they are: a map may have holes."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())


def written(found: dict[str, Scan], titles: dict[str, str], options: Options) -> list[str]:
    told = (
        f"{options.urls:,} addresses of `{SMALLEST}`, each once; the first {options.asked:,} by asking for them. "
        "MB; the process without mapped files."
    )
    columns = ["", "process before", "grown by", "bound", "store at most", "bound", "bounded"]
    return [told, "", *table(columns, _rows(found, titles))]


def _rows(found: dict[str, Scan], titles: dict[str, str]) -> Iterator[list[str]]:
    for key, scan in found.items():
        numbers = (scan.before, scan.grown(), PROCESS_BYTES, max(scan.store), scan.limit)
        cells = (f"{number / MEGABYTE:.0f}" for number in numbers)
        yield [titles[key], *cells, "yes" if scan.is_bounded() else "**no**"]
