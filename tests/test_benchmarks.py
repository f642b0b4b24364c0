"""The benchmarks of reads run, answer every question and judge every bar; how fast anything was is not asked here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import brotli
import pytest
from edge.programs import program
from stacks.live import Deployments

import benchmarks.__main__ as benchmarks
from benchmarks import freshness_cost, write_paths
from benchmarks.__main__ import MARKERS
from benchmarks.bars import BARS, Bar, Measured
from benchmarks.harness.cases import CASES, Expected, WrongAnswerError, fields, right, same_page
from benchmarks.harness.processes import cpu
from benchmarks.harness.rounds import Rounds

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = "bare-callable,fast-redis-local,drf-extensions,fastapi"
SECTIONS = (
    "## The bars",
    "## In-process",
    "## CPU of the server, under granian-wsgi",
    "## Round trips",
    "## Latency, under granian-wsgi",
    "## Memory of the server, under granian-wsgi",
    "## A stampede",
    "## A scan",
)


@pytest.fixture(scope="module")
def report() -> str:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--variants", VARIANTS]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stderr[-5000:]
    return run.stdout.partition("# The whole report")[2]


@pytest.mark.stack("server")  # for balance: no database or store of the stack is in it
class TestReport:
    def test_every_question_has_its_section(self, report: str) -> None:
        assert [section for section in SECTIONS if f"\n{section}\n" not in report] == []

    def test_every_bar_is_judged_or_said_not_to_be_measured(self, report: str) -> None:
        rows = {line.split(" | ")[0].removeprefix("| "): line for line in report.splitlines()}
        verdicts = ("met", "missed", "not measured")
        assert all(any(word in rows[bar.words] for word in verdicts) for bar in BARS)

    def test_the_reference_is_held_against_itself(self, report: str) -> None:
        assert "The reference against itself: " in report
        assert "bare Django view, again (A/A)" in report

    def test_it_says_where_with_what_and_how_it_was_made(self, report: str) -> None:
        assert f"`python -m benchmarks --quick --variants {VARIANTS}`" in report
        assert "Django 5" in report

    def test_what_is_not_installed_is_named(self, report: str) -> None:
        left_out = "fastapi is not installed" in report
        assert left_out != ("| FastAPI" in report)


@pytest.mark.stack("server")
class TestBesideADeployment:
    """Processes of benchmarks that measure in the environment of a deployment, and import what no deployment has."""

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-5000:]
        return done.stdout

    def test_a_miss_is_kept_and_a_hit_is_one(self) -> None:
        assert "| a hit |" in self.run(
            "benchmarks.miss", "--stack", "server", "--rounds", "1", "--count", "1"
        )

    def test_the_cost_of_freshness_is_counted(self, deployments: Deployments) -> None:
        found = freshness_cost.asked(deployments, quick=True)
        assert "writes" in found
        assert 0 < found["one scope"]["hits"] < found["declared"]["hits"]

    def test_writes_past_django_are_seen(self, deployments: Deployments) -> None:
        found = write_paths.past_django("server", deployments, times=1)
        assert found
        assert all(one < write_paths.PATIENCE for times in found.values() for one in times)

    def test_what_an_edge_holds_is_counted(self) -> None:
        program("varnishd")
        figures = self.run("benchmarks.edge", "--stack", "embedded", "--times", "1", "--seconds", "1")
        assert "## How late" in figures


def rounds(again: list[float]) -> Rounds[str]:
    return Rounds(
        "view",
        "again",
        {"view": [1.0] * len(again), "again": again, "mine": [0.2, 0.4, 0.3, 0.3, 0.3][: len(again)]},
    )


class TestNoise:
    def test_a_reference_that_agrees_with_itself_lets_conclude(self) -> None:
        assert rounds([1.0, 1.02, 0.98, 1.01, 1.0]).is_quiet()

    @pytest.mark.parametrize("again", [[1.2] * 5, [0.7, 1.3, 0.9, 1.1, 1.0], [1.0, 1.0]])
    def test_a_reference_that_does_not_is_said_to_be_noise(self, again: list[float]) -> None:
        assert not rounds(again).is_quiet()
        assert "nothing can be concluded" in rounds(again).verdict()

    def test_a_ratio_is_of_two_turns_of_one_round(self) -> None:
        found = rounds([1.0] * 4).ratio("mine")
        assert (found.median, found.low, found.high) == pytest.approx((0.3, 0.275, 0.325))


class TestBar:
    @pytest.mark.parametrize(
        ("sign", "limit", "value", "verdict"),
        [
            ("<=", 0.5, 0.25, "met by 50%"),
            ("<=", 0.5, 0.75, "**missed** by 50%"),
            (">=", 60, 90, "met by 50%"),
            (">=", 60, 30, "**missed** by 50%"),
            ("=", 1, 1.01, "met"),
            ("=", 1, 2, "**missed** by 1.00"),
        ],
    )
    def test_it_is_met_or_missed_by_a_part_of_its_limit(
        self, sign: str, limit: float, value: float, verdict: str
    ) -> None:
        assert Bar("a hit", sign, limit, lambda _: (value, None), ()).margin(value) == verdict

    def test_nothing_measured_is_quiet_and_says_nothing(self) -> None:
        assert Measured().is_quiet()


class TestKeeping:
    def test_only_what_stands_between_the_marks_is_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        readme, results = tmp_path / "README.md", tmp_path / "reads.md"
        readme.write_text(f"before\n{MARKERS[0]}\nold\n{MARKERS[1]}\nafter\n")
        monkeypatch.setattr(benchmarks, "README", readme)
        monkeypatch.setattr(benchmarks, "RESULTS", results)
        benchmarks.keep("# report\n\n", "new")
        assert readme.read_text() == f"before\n{MARKERS[0]}\n\nnew\n{MARKERS[1]}\nafter\n"
        assert results.read_text() == "# report\n"

    def test_the_readme_has_the_marks(self) -> None:
        assert all(mark in (ROOT / "README.md").read_text() for mark in MARKERS)


class TestCPU:
    def test_a_thread_that_has_ended_counts(self) -> None:
        """Django under ASGI has a thread for each request: not to count them makes everything look cheap."""
        code = """
import threading, time
def spend():
    while time.thread_time() < 0.3: pass
thread = threading.Thread(target=spend); thread.start(); thread.join()
print('spent', flush=True); input()
"""
        assert self.spent("-c", code) >= 0.3

    def test_another_process_counts_with_its_children(self) -> None:
        code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
        child = "import time\nwhile time.process_time() < 0.1: pass\nprint('spent', flush=True); input()"
        assert self.spent("-c", code, child) >= 0.1

    @staticmethod
    def spent(*arguments: str) -> float:
        """Return what the harness says that a Python has spent, once it says so itself."""
        command = [sys.executable, *arguments]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "spent\n"
            found = cpu(process.pid)
            process.communicate("\n")
            return found


class TestExpected:
    RIGHT = Expected(200, 5, (b'etag: "a"',))

    def test_the_right_answer_passes(self) -> None:
        self.RIGHT.check(b'HTTP/1.1 200 OK\r\netag: "a"', 5)

    @pytest.mark.parametrize(
        ("head", "length"),
        [
            (b'HTTP/1.1 304 Not Modified\r\netag: "a"', 5),
            (b'HTTP/1.1 200 OK\r\netag: "a"', 4),
            (b'HTTP/1.1 200 OK\r\netag: "b"', 5),
        ],
    )
    def test_a_wrong_status_length_or_etag_does_not(self, head: bytes, length: int) -> None:
        with pytest.raises(WrongAnswerError):
            self.RIGHT.check(head, length)


class TestSamePage:
    PAGE = b'{"next": "a", "results": [1, 2]}'
    MISSED = b'{"next": "b", "results": [1, 2]}'
    PLAIN, CODED = b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\ncontent-encoding: br"

    def test_the_page_is_right_in_every_case(self) -> None:
        same_page("200", self.PLAIN, self.PAGE, self.PAGE)
        same_page("miss", self.PLAIN, self.MISSED, self.PAGE)
        same_page("coded", self.CODED, brotli.compress(self.PAGE), self.PAGE)

    @pytest.mark.parametrize(
        ("case", "head", "body"),
        [
            ("200", PLAIN, b'{"results": [1]}'),
            ("miss", PLAIN, b'{"results": [2, 1]}'),
            ("200", CODED, brotli.compress(PAGE)),
            ("coded", PLAIN, PAGE),
            ("coded", CODED, brotli.compress(b'{"results": []}')),
        ],
    )
    def test_other_rows_and_another_coding_are_not(self, case: str, head: bytes, body: bytes) -> None:
        with pytest.raises(WrongAnswerError):
            same_page(case, head, body, self.PAGE)

    def test_only_a_304_is_asked_for_by_its_tag_and_only_one_case_says_what_it_accepts(self) -> None:
        told = {case: set(fields(case, '"a"')) for case in CASES}
        assert told == {"200": set(), "coded": {"Accept-Encoding"}, "304": {"If-None-Match"}, "miss": set()}

    def test_every_hit_must_have_its_tag_and_a_miss_its_mark_alone(self) -> None:
        tag, mark = b'etag: "a"', b"cache-status: keybits"
        assert right("304", 0, '"a"', mark) == Expected(304, 0, (tag, mark))
        assert right("coded", 3, '"a"', mark) == Expected(200, 3, (tag, mark))
        assert right("miss", 9, '"a"', mark) == Expected(200, 9, (mark,))
