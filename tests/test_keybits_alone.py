"""keybits by itself: what its documentation builds is built from its own wheel, where nothing of the gallery is."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from stacks import installed
from stacks.live import PATIENCE
from stacks.servers import reserve_port, wait_until_ready

pytestmark = pytest.mark.stack("embedded")  # it is built on SQLite and LMDB
CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "keybits"
README = PACKAGE / "README.md"
PAGE = {"slug": "engine", "title": "Engine", "author": "ada"}
ARTICLE = {"slug": "engine", "title": "Engine", "headline": "ENGINE"}
STEP = re.compile(r"(?:(Add|Write) to `(\S+)`[^\n]*\n(?:[^`]*?\n)?\n)?```(python|sh)\n(.*?)```", re.S)


def test_nothing_in_it_names_the_gallery_or_an_address_of_its_api() -> None:
    for module in PACKAGE.rglob("*.py"):
        assert not re.search(r"keybits-gallery|/api/v1", module.read_text()), module


def project_of(manifest: Path) -> dict[str, object]:
    """Return the project that a `pyproject.toml` describes."""
    described: dict[str, dict[str, object]] = tomllib.loads(manifest.read_text())
    return described["project"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that an installed keybits would be in."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=PACKAGE, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    with ZipFile(wheel) as packed:
        packed.extractall(directory / "unpacked")
    return directory / "unpacked"


@pytest.fixture(scope="module")
def distribution(unpacked: Path) -> Distribution:
    (described,) = unpacked.glob("*.dist-info")
    return PathDistribution(described)


class Project:
    """A project that the documentation builds, in a folder of its own; `steps` are the shell's."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.environment = dict(environment)
        self.steps: list[str] = []
        self.url = ""

    def build(self, page: Path) -> None:
        """Do what a page of the documentation says, from its top."""
        for verb, path, language, code in STEP.findall(page.read_text()):
            if language == "sh":
                self.steps += code.splitlines()
                self.run("sh", "-ec", code) if not code.startswith("pip ") else None
            else:
                with (self.directory / path).open("a" if verb == "Add" else "w") as file:
                    file.write("\n" * (verb == "Add") + code)

    def run(self, *command: str) -> str:
        """Run a command in it; return what it printed, or fail with that."""
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def shell(self, code: str) -> str:
        """Run Python in it, its models imported; return what it printed."""
        return self.run(sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", code)

    def answers(self, *requests: str) -> list[tuple[int, dict[str, str], object]]:
        """Send requests, each a call of Django's test client; return status, header fields and JSON of each answer."""
        asked = ", ".join(f"client.{request}" for request in requests)
        printed = self.shell(
            "import json; from django.test import Client; client = Client(SERVER_NAME='localhost');"
            f"made = [{asked}];"
            "print(json.dumps([(each.status_code, dict(each.headers), each.json()) for each in made]))"
        )
        return [(status, fields, body) for status, fields, body in json.loads(printed.partition("\n")[0])]


@pytest.fixture(scope="module")
def project(unpacked: Path, distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project as the README leaves it, and one author."""
    built = begun(tmp_path_factory.mktemp("wiki"), unpacked, distribution)
    built.build(README)
    built.shell("from pages.models import Author; Author.objects.create(name='ada')")
    return built


@pytest.fixture(scope="module")
def viewed(unpacked: Path, distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project as docs/views.md continues it, with two authors and a page of one of them."""
    built = begun(tmp_path_factory.mktemp("views"), unpacked, distribution)
    built.build(README)
    built.build(CHECKOUT / "docs" / "views.md")
    built.shell(
        "from pages.models import Author, Page; Author.objects.create(name='bob');"
        "Page.objects.create(slug='engine', title='Engine', author=Author.objects.create(name='ada'))"
    )
    return built


def begun(directory: Path, unpacked: Path, distribution: Distribution) -> Project:
    """Return an empty project, in an environment that has keybits and what it requires, and granian."""
    needed = installed.environment(*distribution.requires or (), "granian", beside=[unpacked])
    needed[installed.HIDDEN] += ",catalog,gallery_api"  # where the checkout itself is what is installed
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return Project(directory, {**kept, **needed, "PATH": path})


@pytest.fixture(scope="module")
def served(project: Project) -> Iterator[httpx.Client]:
    """A client of the project's server, two processes."""
    port, log = reserve_port(), project.directory / "granian.log"
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--blocking-threads", "2"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "granian", "--interface", "wsgi", *options, "wiki.wsgi:application"],
            cwd=project.directory,
            env=project.environment,
            stdout=output,
            stderr=output,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        try:
            wait_until_ready(server, lambda: log.read_bytes().count(b"Started worker-") == 2, log)
            yield client
        finally:
            server.terminate()
            server.wait(PATIENCE)


@pytest.fixture
def page(served: httpx.Client) -> Iterator[str]:
    """The address of a page that has just been made."""
    made = served.post("/pages/", json=PAGE)
    assert made.status_code == 201, made.text
    assert made.headers["ETag"]
    yield made.headers["Location"]
    served.delete("/pages/engine/", headers={"If-Match": "*"})


class TestWheel:
    def test_has_keybits_and_nothing_beside_it(self, unpacked: Path) -> None:
        assert [path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"] == ["keybits"]
        packed = {path.relative_to(unpacked / "keybits") for path in unpacked.rglob("*.py")}
        assert packed == {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}

    def test_is_typed_and_licensed(self, unpacked: Path, distribution: Distribution) -> None:
        assert (unpacked / "keybits" / "py.typed").exists()
        assert distribution.read_text("licenses/LICENSE") == (CHECKOUT / "LICENSE").read_text()

    def test_requires_what_the_gallery_requires_of_the_same_and_has_its_version(self) -> None:
        alone, whole = project_of(PACKAGE / "pyproject.toml"), project_of(CHECKOUT / "pyproject.toml")
        assert alone["version"] == whole["version"]
        assert set(alone["dependencies"]) < set(whole["dependencies"])  # type: ignore[call-overload]


class TestReadme:
    def test_is_followed_from_its_install_to_its_test(self, project: Project) -> None:
        assert project.steps[0] == "pip install ./keybits granian"
        assert project.steps[-1] == "python manage.py test"

    def test_is_followed_into_production(self, project: Project) -> None:
        text = (project.directory / "wiki" / "settings.py").read_text()
        assert text.count("DEBUG = True") == 1
        (project.directory / "wiki" / "production.py").write_text(
            text.replace("DEBUG = True", "DEBUG = False")
        )
        project.run(sys.executable, "manage.py", "check", "--settings", "wiki.production")

    def test_is_followed_where_nothing_of_the_gallery_is(self, project: Project, unpacked: Path) -> None:
        origin = project.shell("import keybits; print(keybits.__file__)").strip()
        assert Path(origin).is_relative_to(unpacked)
        for module in ("catalog", "gallery_api", "django_filters", "drf_spectacular", "PIL"):
            with pytest.raises(AssertionError, match=f"import of {module} halted"):
                project.shell(f"import {module}")

    def test_of_what_a_write_by_another_program_shows(
        self, project: Project, served: httpx.Client, page: str
    ) -> None:
        assert served.get(page).json() == PAGE
        with closing(sqlite3.connect(project.directory / "db.sqlite3")) as database, database:
            database.execute("UPDATE pages_page SET title = 'Analytical'")
        while served.get(page).json()["title"] != "Analytical":
            assert served.get(page).status_code == 200
        assert served.get("/pages/").json() == [{**PAGE, "title": "Analytical"}]

    def test_of_a_renamed_author(self, project: Project, served: httpx.Client, page: str) -> None:
        assert served.get(page).json()["author"] == "ada"
        project.shell("from pages.models import Author; Author.objects.update(name='lovelace')")
        assert served.get(page).json()["author"] == "lovelace"
        project.shell("from pages.models import Author; Author.objects.update(name='ada')")

    def test_of_a_hit_and_of_a_304(self, served: httpx.Client, page: str) -> None:
        made = served.get(page)
        kept = served.get(page)
        assert made.headers["Cache-Status"].endswith("; stored")
        assert kept.headers["Cache-Status"] == "keybits; hit"
        assert kept.content == made.content
        again = served.get(page, headers={"If-None-Match": kept.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_of_conditions_on_a_write(self, served: httpx.Client, page: str) -> None:
        tag = served.get(page).headers["ETag"]
        unasked = served.patch(page, json={"title": "New"})
        assert (unasked.status_code, unasked.headers["Content-Type"]) == (428, "application/problem+json")
        done = served.patch(page, json={"title": "New"}, headers={"If-Match": tag})
        assert (done.status_code, done.json()["title"]) == (200, "New")
        late = served.patch(page, json={"title": "Late"}, headers={"If-Match": tag})
        assert (late.status_code, late.headers["ETag"]) == (412, done.headers["ETag"])
        assert served.get(page).json()["title"] == "New"


class TestViews:
    def test_accept_the_query_that_they_list_and_count_no_tracking(self, viewed: Project) -> None:
        accepted, misspelt = viewed.answers(
            "get('/articles/?title=Engine&utm_source=b')", "get('/articles/?titel=Engine')"
        )
        assert accepted[1]["Content-Location"] == "/articles/?title=Engine"
        assert (accepted[2], misspelt[0]) == ([ARTICLE], 400)

    def test_are_held_as_their_policy_says(self, viewed: Project) -> None:
        ((_, fields, _),) = viewed.answers("get('/articles/engine/')")
        assert fields["Cache-Control"] == "public, max-age=60, stale-while-revalidate=30"

    def test_read_their_lists_as_columns(self, viewed: Project) -> None:
        assert viewed.run(sys.executable, "manage.py", "projections") == "article-list: columns\n"

    def test_refuse_members_that_cannot_be_set(self, viewed: Project) -> None:
        sent = "patch('/articles/engine/', {{'slug': {!r}}}, 'application/json', headers={{'If-Match': '*'}})"
        refused, accepted = viewed.answers(sent.format("other"), sent.format("engine"))
        assert (refused[0], accepted[0]) == (400, 200)

    def test_tell_an_empty_list_from_a_parent_that_is_not_there(self, viewed: Project) -> None:
        ada, bob, zoe = viewed.answers(*(f"get('/authors/{name}/pages/')" for name in ("ada", "bob", "zoe")))
        assert (ada[2], bob[2], zoe[0]) == ([ARTICLE], [], 404)

    def test_change_a_whole_list_under_the_header_alone(self, viewed: Project) -> None:
        viewed.shell(
            "from pages.models import Author, Page;"
            "Page.objects.create(slug='eve', title='Eve', author=Author.objects.create(name='eve'))"
        )
        deletes = "delete('/authors/eve/pages/?all=true&dry_run={}', headers={})"
        header = "{'X-BULK-OPERATION': 'true'}"
        refused, counted, before, done, after = viewed.answers(
            deletes.format("false", "{}"),
            deletes.format("true", header),
            "get('/count/')",
            deletes.format("false", header),
            "get('/count/')",
        )
        assert (refused[0], counted[2], done[2]) == (400, {"count": 1}, {"count": 1})
        assert (before[2], after[2]) == ({"pages": 2}, {"pages": 1})
