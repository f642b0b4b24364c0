"""A reader: a process that asks until it is told to stop, or its time is up."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from benchmarks.freshness.client import Client, path
from benchmarks.freshness.journal import Journal, clock
from benchmarks.freshness.orders import Orders
from benchmarks.freshness.world import World

PAUSE = 0.004
"""Mean seconds between two reads."""


def main() -> None:
    told = json.loads(sys.argv[1])
    randomly = random.Random(told["seed"])  # noqa: S311 - not for secrets
    world = World.load(told["world"])
    client = Client(told["ports"], Journal(Path(told["journal"])), randomly)
    orders = Orders()
    while clock() < told["until"] and "stop" not in orders.new():
        if client.get(path(world, randomly, told["subject"])) == 0:
            time.sleep(0.02)
        time.sleep(randomly.expovariate(1 / PAUSE))
    client.close()


if __name__ == "__main__":
    main()
