"""What can go wrong, each by its name: a function that breaks something, mends it, and says whether it could."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from stacks.live import CHECKOUT
from stacks.runs import wait_until_stopped

from benchmarks.freshness.journal import clock
from benchmarks.freshness.run import Process, Torture

__all__ = ["EMBEDDED", "SERVER", "chosen"]

Fault = Callable[[Torture, float], bool]
CRASH_LOOP = 7.0
"""granian ends when the same worker dies again within six seconds."""


def chosen(run: Torture) -> dict[str, Fault]:
    """Return the faults of this run's stack that were asked for."""
    known = EVERYWHERE | (EMBEDDED if run.redis is None else SERVER)
    if run.options.faults in {"all", "none"}:
        return known if run.options.faults == "all" else {}
    names = run.options.faults.split(",")
    return {name: known[name] for name in names if name in known}


# --- Processes ----------------------------------------------------------------------------------------------


def kill_writer(run: Torture, seconds: float) -> bool:
    writers = run.writers()
    if writers:
        run.randomly.choice(writers).kill()
    return bool(writers)


def _ordered_to_die(run: Torture, word: str) -> bool:
    """Give the order, and wait until the writer has died of it."""
    writers = run.writers()
    if not writers:
        return False
    writer = run.randomly.choice(writers)
    writer.order(word)
    with suppress(subprocess.TimeoutExpired):
        writer.process.wait(3)
    return not writer.alive


def kill_before_close(run: Torture, seconds: float) -> bool:
    return _ordered_to_die(run, "die-before-close")


def kill_after_open(run: Torture, seconds: float) -> bool:
    return _ordered_to_die(run, "die-after-open")


def kill_worker(run: Torture, seconds: float) -> bool:
    rested = [s for s in run.servers if clock() - run.workers_killed.get(s.port, 0.0) > CRASH_LOOP]
    if not rested:
        return False
    server = run.randomly.choice(rested)
    workers = run.children(server)
    if not workers:
        return False
    run.workers_killed[server.port] = clock()
    run.randomly.choice(workers).kill()
    return True


def freeze_worker(run: Torture, seconds: float) -> bool:
    workers = run.children(run.randomly.choice(run.servers))
    if not workers:
        return False
    worker = run.randomly.choice(workers)
    with suppress(psutil.NoSuchProcess):
        worker.suspend()
        wait_until_stopped([worker])
        time.sleep(min(seconds, 2.0))
        worker.resume()
    return True


# --- The embedded store -------------------------------------------------------------------------------------


def lmdb_full(run: Torture, seconds: float) -> bool:
    """Fill the map, whoever is to write next."""
    command = [sys.executable, "-m", "benchmarks.freshness.filler", str(seconds)]
    subprocess.run(command, cwd=CHECKOUT, env=run.first.environment, timeout=seconds + 30, check=True)
    return True


def lmdb_unwritable(run: Torture, seconds: float) -> bool:
    """Have a writer that cannot open the store."""
    writer: Process = run.spawn("writer", environment={"TORTURE_STORE": "unwritable"})
    deadline = clock() + 8
    while not writer.size and writer.alive and clock() < deadline:
        time.sleep(0.05)
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        writer.kind = "gone"
        writer.kill()
    return True


def disk_full(run: Torture, seconds: float) -> bool:
    """Let one serving process write to no file any more."""
    workers = run.children(run.randomly.choice(run.servers))
    if not workers:
        return False
    worker = run.randomly.choice(workers)
    with suppress(psutil.NoSuchProcess):
        _, hard = worker.rlimit(psutil.RLIMIT_FSIZE)
        worker.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
        time.sleep(seconds)
        worker.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
    return True


# --- Redis --------------------------------------------------------------------------------------------------


def _redis(run: Torture) -> redis.Redis:
    assert run.redis is not None
    return redis.Redis(port=run.redis.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def redis_restart(run: Torture, seconds: float) -> bool:
    assert run.redis is not None
    run.redis.restart()
    return True


def redis_away(run: Torture, seconds: float) -> bool:
    """Kill it, and start it again after a while."""
    assert run.redis is not None
    run.redis.kill()
    time.sleep(seconds)
    run.redis.start()
    return True


def redis_snapshot(run: Torture, seconds: float) -> bool:
    """Let it come back as it was some time ago."""
    assert run.redis is not None
    old, snapshot = run.redis.directory / "old.rdb", run.redis.directory / "dump.rdb"
    with _redis(run) as client:
        client.save()
    shutil.move(snapshot, old)
    time.sleep(seconds)
    run.redis.kill()
    shutil.move(old, snapshot)
    run.redis.start()
    snapshot.unlink()
    return True


def redis_frozen(run: Torture, seconds: float) -> bool:
    assert run.redis is not None
    run.redis.freeze()
    time.sleep(seconds)
    run.redis.thaw()
    return True


def flushall(run: Torture, seconds: float) -> bool:
    with _redis(run) as client:
        for _ in range(run.randomly.randint(1, 20)):
            client.flushall()
            time.sleep(run.randomly.uniform(0, 0.05))
    return True


def eviction(run: Torture, seconds: float) -> bool:
    """Leave hardly any memory, so that whatever is written pushes something out; sometimes refuse instead."""
    policy = run.randomly.choice(["allkeys-random", "allkeys-lru", "volatile-ttl", "noeviction"])
    with _redis(run) as client:
        client.config_set("maxmemory-policy", policy)
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + (20_000 if policy != "noeviction" else -20_000))
        until, number = clock() + seconds, 0
        while clock() < until:
            number += 1
            with suppress(redis.ResponseError):
                client.set(f"filler {number}", b"x" * 2000, ex=60)
            time.sleep(0.002)
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    return True


def cut_writers(run: Torture, seconds: float) -> bool:
    assert run.writer_link is not None
    run.writer_link.cut()
    time.sleep(seconds)
    run.writer_link.mend()
    return True


def hold_writers(run: Torture, seconds: float) -> bool:
    """Deliver what writers send to Redis only later."""
    assert run.writer_link is not None
    run.writer_link.hold()
    time.sleep(seconds)
    run.writer_link.mend()
    return True


def cut_readers(run: Torture, seconds: float) -> bool:
    link = run.randomly.choice(run.server_links)
    link.cut()
    time.sleep(seconds)
    link.mend()
    return True


def hold_readers(run: Torture, seconds: float) -> bool:
    link = run.randomly.choice(run.server_links)
    link.hold()
    time.sleep(seconds)
    link.mend()
    return True


# --- PostgreSQL ---------------------------------------------------------------------------------------------


def _terminated(run: Torture, order: str, wait_event: str) -> bool:
    """Have a writer's COMMIT hang, and terminate its backend there."""
    writers = run.writers()
    if not writers:
        return False
    run.randomly.choice(writers).order(order)
    deadline, found = clock() + 4, 0
    with suppress(psycopg.OperationalError), run.database() as connection:
        while not found and clock() < deadline:
            time.sleep(0.02)
            sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = %s"
            (found,) = connection.execute(sql, [wait_event]).fetchone() or (0,)
    return bool(found)


def terminated_before_commit(run: Torture, seconds: float) -> bool:
    return _terminated(run, "slow-before", "PgSleep")


def terminated_after_commit(run: Torture, seconds: float) -> bool:
    return _terminated(run, "slow-after", "SyncRep")


EVERYWHERE: dict[str, Fault] = {
    "kill-writer": kill_writer,
    "kill-before-close": kill_before_close,
    "kill-after-open": kill_after_open,
    "kill-worker": kill_worker,
    "freeze-worker": freeze_worker,
}
EMBEDDED: dict[str, Fault] = {
    "lmdb-full": lmdb_full,
    "lmdb-unwritable": lmdb_unwritable,
    "disk-full": disk_full,
}
SERVER: dict[str, Fault] = {
    "redis-restart": redis_restart,
    "redis-away": redis_away,
    "redis-snapshot": redis_snapshot,
    "redis-frozen": redis_frozen,
    "flushall": flushall,
    "eviction": eviction,
    "cut-writers": cut_writers,
    "hold-writers": hold_writers,
    "cut-readers": cut_readers,
    "hold-readers": hold_readers,
    "terminated-before-commit": terminated_before_commit,
    "terminated-after-commit": terminated_after_commit,
}
