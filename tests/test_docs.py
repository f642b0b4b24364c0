"""What can be set, checked or run has its heading in the documentation, and says there what holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePath
from typing import Any

import problem_types
import pytest
from django.core import mail
from pytest_django import Settings

from catalog.api.schema import PROBLEM
from keybits import checks, gauges, metrics, tracking, view_checks
from keybits.conf import Conf, conf

CHECKOUT = Path(__file__).resolve().parents[1]
SETTINGS = ast.parse((CHECKOUT / "gallery_api" / "settings.py").read_text("utf-8"))
OURS = ("gallery_api", "catalog", "keybits")


def calls_of_env() -> list[ast.Call]:
    calls = [node for node in ast.walk(SETTINGS) if isinstance(node, ast.Call)]
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "env" and call.args
    ]


VARIABLES = {ast.literal_eval(call.args[0]): call for call in calls_of_env()}
NAMES = [name for name, member in vars(Conf).items() if isinstance(member, property)]
SOURCES = [Path(module.__file__).read_text("utf-8") for module in (checks, tracking, view_checks)]
CHECKS = sorted({found for source in SOURCES for found in re.findall(r"keybits\.[EW]\d{3}", source)})
METRICS = [
    *(
        f"{name}_total"
        for name in re.findall(r"Counter\(\"(\w+)\"", Path(metrics.__file__).read_text("utf-8"))
    ),
    *re.findall(r"GaugeMetricFamily\(\s*\"(\w+)\"", Path(gauges.__file__).read_text("utf-8")),
]
COMMANDS = [
    path.stem
    for package in OURS
    for path in (CHECKOUT / package).rglob("management/commands/*.py")
    if not path.stem.startswith("_")
]


def sections() -> dict[str, str]:
    """Return the text below each heading that names something in backticks, by that name."""
    found: dict[str, str] = {}
    for path in (CHECKOUT / "docs").glob("*.md"):
        for part in re.split(r"^#+ ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            heading, _, text = part.partition("\n")
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", heading), text)
    return found


SECTIONS = sections()


def field(name: str, of: str) -> str:
    found = re.search(rf"^- {of}: (.+)$", SECTIONS[name], re.MULTILINE)
    assert found, f"{name} has no line that begins with '- {of}: '"
    return found[1]


def default_of(call: ast.Call) -> str:
    """Return the default as one would write it into the environment; "" where it is made of other things."""
    (given,) = [keyword.value for keyword in call.keywords if keyword.arg == "default"]
    try:
        default = ast.literal_eval(given)
    except ValueError:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, list) else str(default)


class TestHeadings:
    @pytest.mark.parametrize("variable", VARIABLES)
    def test_of_every_environment_variable(self, variable: str) -> None:
        assert variable in SECTIONS

    @pytest.mark.parametrize("name", NAMES)
    def test_of_every_setting(self, name: str) -> None:
        assert f"KEYBITS_{name}" in SECTIONS

    @pytest.mark.parametrize("check", CHECKS)
    def test_of_every_system_check(self, check: str) -> None:
        assert check in SECTIONS

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_every_management_command(self, command: str) -> None:
        assert command in SECTIONS

    @pytest.mark.parametrize("metric", METRICS)
    def test_of_every_metric(self, metric: str) -> None:
        assert metric in SECTIONS

    def test_of_nothing_that_is_gone(self) -> None:
        known = {*VARIABLES, *CHECKS, *COMMANDS, *(f"KEYBITS_{name}" for name in NAMES)}
        headings = re.findall(r"^### `(.+)`$", (CHECKOUT / "docs" / "settings.md").read_text("utf-8"), re.M)
        assert headings
        assert set(headings) <= known
        assert len(headings) == len(set(headings))

    def test_something_was_found_of_each_kind(self) -> None:
        assert "DATABASE_URL" in VARIABLES
        assert "STORE" in NAMES
        assert "keybits.E001" in CHECKS
        assert "demo" in COMMANDS
        assert {"keybits_answers_total", "keybits_store_up"} <= set(METRICS)


PROSE = [
    path
    for folder in ("docs", "benchmarks", *OURS)
    for kind in ("md", "py")
    for path in (CHECKOUT / folder).rglob(f"*.{kind}")
] + list(CHECKOUT.glob("*.md"))
BENCHMARKS = sorted(
    {
        name
        for path in PROSE
        for name in re.findall(r"python -m benchmarks((?:\.\w+)+)", path.read_text("utf-8"))
    }
)


PROBLEM_TYPES = {
    found
    for package in OURS
    for path in (CHECKOUT / package).rglob("*.py")
    for found in re.findall(r"urn:problem:[^\s\"']*", path.read_text("utf-8"))
}


class TestProblems:
    """The code has each type in full, so that whoever meets one finds where it is made."""

    def test_each_type_is_written_out_in_the_code_and_described_once(self) -> None:
        types = [row.type for row in problem_types.described() if row.type != problem_types.BLANK]
        assert len(types) == len(set(types))
        assert set(types) == PROBLEM_TYPES
        assert all(re.fullmatch(r"urn:problem:[a-z]+(-[a-z]+)*", each) for each in PROBLEM_TYPES)

    def test_each_member_beside_those_of_the_rfc_is_in_the_description(self) -> None:
        """RFC 9457 section 3.2: clients that know a type look for its members."""
        members = {name for row in problem_types.described() for name in row.members}
        assert members == PROBLEM["properties"].keys() - problem_types.OF_THE_RFC


class TestBenchmarks:
    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_that_are_named_as_modules_run_as_such(self, name: str) -> None:
        """One of the others prints nothing: `python -m benchmarks` runs those."""
        place = CHECKOUT / "benchmarks" / name[1:].replace(".", "/")
        module = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
        assert '__name__ == "__main__"' in module.read_text("utf-8")


class TestWhatTheySay:
    @pytest.mark.parametrize("name", [*VARIABLES, *(f"KEYBITS_{name}" for name in NAMES)])
    def test_type_default_and_consequence(self, name: str) -> None:
        assert field(name, "Type")
        assert field(name, "Default")
        assert SECTIONS[name].partition("- Default: ")[2].partition("\n")[2].strip()

    @pytest.mark.parametrize(
        "name", sorted(set(NAMES) - {"FINGERPRINT_PACKAGES"})
    )  # whose is each project's own
    def test_the_default_of_a_setting_is_the_one_it_has(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.delattr(mail, "outbox", raising=False)  # a test runner has defaults of its own
        if hasattr(settings, f"KEYBITS_{name}"):
            delattr(settings, f"KEYBITS_{name}")
        default: Any = getattr(conf, name)
        text = field(f"KEYBITS_{name}", "Default").strip("`")
        said = ast.literal_eval(
            {"true": "True", "false": "False"}.get(text, text)
        )  # as the environment has them
        assert said == (str(default) if isinstance(default, PurePath) else default)

    @pytest.mark.parametrize("variable", [name for name, call in VARIABLES.items() if default_of(call)])
    def test_the_default_of_a_variable_is_the_one_it_has(self, variable: str) -> None:
        assert field(variable, "Default").strip('`"') == default_of(VARIABLES[variable])

    def test_what_the_environment_decides_of_keybits_is_all_that_it_does(self) -> None:
        """In the list of these settings, and in what is said of each that has no heading as a variable."""
        text = " ".join((CHECKOUT / "docs" / "settings.md").read_text("utf-8").split())
        (listed,) = re.findall(r"From the environment it sets (.+?)\.", text)
        sets = [
            each
            for each in ast.walk(SETTINGS)
            if isinstance(each, ast.Assign) and "env." in ast.unparse(each)
        ]
        made = {
            name for each in sets for name in map(ast.unparse, each.targets) if name.startswith("KEYBITS_")
        }
        named = {name for name in VARIABLES if name.startswith("KEYBITS_")}
        assert set(re.findall(r"`(KEYBITS_\w+)`", listed)) == made | named
        for name in named - {"KEYBITS_FASTPATH", "KEYBITS_METRICS", "KEYBITS_STORE"}:
            assert "From the environment." in " ".join(SECTIONS[name].split()), name

    @pytest.mark.parametrize("check", CHECKS)
    def test_a_check_is_explained(self, check: str) -> None:
        assert SECTIONS[check].strip()


def modules_of(package: Path) -> set[str]:
    """Return the dotted names of a package's modules, without its own name and those that only Django looks for."""
    found = (path.relative_to(package).with_suffix("") for path in package.rglob("*.py"))
    names = {".".join(path.parts) for path in found if path.parts[0] not in {"management", "migrations"}}
    return {name for name in names if not name.endswith("__init__")}


class TestArchitecture:
    def test_says_of_every_module_of_keybits_once_what_is_decided_there(self) -> None:
        table = (CHECKOUT / "ARCHITECTURE.md").read_text("utf-8").partition("## Where it is decided\n")[2]
        rows = [row.split("|")[2] for row in table.partition("\n## ")[0].splitlines() if row.startswith("|")]
        named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
        assert len(named) == len(set(named))
        assert set(named) - {"fastpath", "purge", "stores"} == modules_of(CHECKOUT / "keybits")


def cells(text: str, first: str) -> list[list[str]]:
    """Return the cells of the rows of tables whose first one holds `first`."""
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if first in row[0]]


class TestReadme:
    def test_what_it_claims_of_cost_is_what_its_table_says(self) -> None:
        """Of the bare view's: less than three quarters; over ten times; over a hundred times."""
        readme = (CHECKOUT / "README.md").read_text("utf-8")
        costs = {
            name: [row[1] for row in cells(readme, name)]
            for name in ("fast path", "drf-extensions", "plain REST")
        }
        assert len(costs["fast path"]) > 1
        assert all(float(cost) < 3 / 4 for cost in costs["fast path"])
        assert [float(cost) > 10 for cost in costs["drf-extensions"]] == [True]
        assert [float(cost) > 100 for cost in costs["plain REST"]] == [True]

    def test_what_it_claims_of_conformance_is_what_the_matrix_says(self) -> None:
        """Nothing of ours fails; more than ten rows of each of the others do."""
        matrix = (CHECKOUT / "docs" / "conformance.md").read_text("utf-8")
        failed = {name: int(cells(matrix, name)[0][2]) for name in ("ours", "drf-extensions", "cache_page")}
        assert failed.pop("ours") == 0
        assert min(failed.values()) > 10

    def test_what_it_sets_in_production_believes_the_proxy_that_ends_tls(self) -> None:
        """Else every request is redirected to where it came from, and all clients share one rate."""
        readme = (CHECKOUT / "README.md").read_text("utf-8")
        exported = dict(re.findall(r"\b([A-Z_]+)=(\w+)", readme.partition("## Deploying")[2]))
        assert exported["HTTPS"] == exported["BEHIND_TLS_PROXY"] == "true"
        assert exported["NUM_PROXIES"] == "1"
        assert exported["KEYBITS_RELAY"] == "external"


class TestBulkOperations:
    def test_what_is_claimed_of_their_cost_is_what_was_measured(self) -> None:
        """Of a hundred thousand rows: the seconds of the first two, and how many times the bare UPDATE's each is."""
        told = " ".join((CHECKOUT / "docs" / "bulk.md").read_text("utf-8").split())
        measured = (CHECKOUT / "benchmarks" / "bulk.md").read_text("utf-8")
        kinds = ("a title", "positions", "`DELETE`", "a tag", "bare `UPDATE`")
        rows = [next(row for row in cells(measured, kind) if row[1] == "100,000") for kind in kinds]
        title, *others, bare = ((f"{float(row[2]):.1f}", row[4]) for row in rows)
        assert f"A title of 100,000 rows took {title[0]} s, {title[1]} times the bare `UPDATE`" in told
        assert f"without a trigger ({bare[0]} s;" in told
        positions, deletion, tag = (times for _, times in others)
        assert f"positions took {positions} times as long, a deletion {deletion}, adding and" in told
        assert f"removing a tag {tag}." in told


class TestInstalling:
    @pytest.mark.parametrize("path", [path for path in PROSE if "pip install" in path.read_text("utf-8")])
    def test_asks_no_index_for_what_has_not_been_released(self, path: Path) -> None:
        """There, anybody may give such a name to a package of their own."""
        name = r"keybits(?:-gallery)?"
        by_itself = rf"pip install\s+(?:-\S+\s+)*['\"]?{name}|(?<![\w./-]){name}\["
        assert not re.search(by_itself, path.read_text("utf-8"))
