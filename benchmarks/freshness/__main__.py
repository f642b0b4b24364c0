"""`python -m benchmarks.freshness --stack embedded|server`: torture it, and say what came of it."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from stacks import runs  # noqa: E402
from stacks.live import Deployments  # noqa: E402
from stacks.servers import Postgres, start_postgres  # noqa: E402

from benchmarks.freshness import report  # noqa: E402
from benchmarks.freshness.oracle import History  # noqa: E402
from benchmarks.freshness.run import Options, Torture  # noqa: E402


def main() -> int:
    told = _arguments()
    options = Options(
        told.seconds,
        told.servers,
        told.workers,
        told.writers,
        told.readers,
        told.seed,
        told.faults,
        told.subject,
    )
    directory = runs.begin()
    postgres: Postgres | None = None
    try:
        postgres = start_postgres(directory / "postgres") if told.stack == "server" else None
        run = Torture(options, Deployments(directory / "live", postgres))
        run.run()
        begun = perf_counter()
        history = History(run.world, run.home.glob("*.journal"))
        verdict = history.judge()
        text, passed = report.written(told.stack, run, history, verdict)
        print(text)
        print(f"judged in {perf_counter() - begun:.1f} s")
        if told.keep:
            told.keep.mkdir(parents=True, exist_ok=True)
            for file in [*run.home.glob("*.journal"), *run.home.glob("**/*.log")]:
                (told.keep / str(file.relative_to(run.home)).replace("/", "-")).write_bytes(file.read_bytes())
        if told.write:
            report.keep(told.stack, told.subject, text)
        return 0 if passed else 1
    finally:
        if postgres is not None:
            with suppress(OSError):
                postgres.kill()
        runs.end(directory)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshness", description=__doc__)
    parser.add_argument("--stack", choices=["embedded", "server"], default="embedded")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="processes of each server")
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", default="all", help="all, none, or names with commas between")
    parser.add_argument("--subject", choices=["gallery", "recipe"], default="gallery")
    parser.add_argument("--keep", type=Path, help="a folder for the journals and logs")
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
