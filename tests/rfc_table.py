"""The RFCs' requirements on a shared cache, and the tests that show them.

``tests/requirements.toml`` lists the requirements, the tests say with ``@pytest.mark.rfc(number, section, id)`` which
ones they show, and ``docs/caching.md`` has the table of both. Run as a program this module writes that table; as a
pytest plugin it writes down the markers of all tests that pytest collects.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
CATALOGUE: Final = ROOT / "tests" / "requirements.toml"
PAGE: Final = ROOT / "docs" / "caching.md"

BEGIN: Final = "<!-- requirements: written by `make docs`; edit tests/requirements.toml and the tests -->\n"
END: Final = "<!-- end of requirements -->\n"

LEVELS: Final = {"must": "must", "should": "should", "may": "may", "is": ""}
REASONS: Final = {"inapplicable": "does not apply", "undone": "not done"}


class CatalogueError(Exception):
    """The catalogue or the page isn't of the form it should have; says where."""


class Key(NamedTuple):
    """What a marker names."""

    rfc: str
    section: str
    ident: str

    def __str__(self) -> str:
        return f"RFC {self.rfc} §{self.section} {self.ident}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of the catalogue. ``untested`` says why no test shows it, "" where one should."""

    key: Key
    level: str
    text: str
    untested: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    titles: Mapping[str, str]
    requirements: tuple[Requirement, ...]


Tests = Mapping[Key, tuple[str, ...]]
"""The tests that show each requirement: ``tests/…/test_x.py::test_y``, without parameters, each once."""


# -- the catalogue ---------------------------------------------------------------------------------------------------


def read_catalogue(text: str) -> Catalogue:
    """The catalogue in ``text``; raises CatalogueError, or tomllib.TOMLDecodeError."""
    titles: dict[str, str] = {}
    requirements: list[Requirement] = []
    for rfc, sections in tomllib.loads(text).items():
        titles[rfc] = sections.pop("title")
        for section, entries in sections.items():
            requirements += [_requirement(Key(rfc, section, ident), entry) for ident, entry in entries.items()]
    return Catalogue(titles, tuple(requirements))


def _requirement(key: Key, entry: dict[str, str]) -> Requirement:
    (level, *levels), reasons = [name for name in entry if name in LEVELS] or [""], [n for n in entry if n in REASONS]
    if not level or levels or len(reasons) > 1 or len(entry) > 1 + len(reasons):
        raise CatalogueError(f"{key}: one of {', '.join(LEVELS)} and at most one of {', '.join(REASONS)}, not {entry}")
    untested = f"{REASONS[reasons[0]]}: {entry[reasons[0]]}" if reasons else ""
    return Requirement(key, level, entry[level], untested)


# -- the markers -----------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rfc-markers", metavar="FILE", help="write the rfc markers of the collected tests to FILE")


def pytest_collection_finish(session: pytest.Session) -> None:
    file = session.config.getoption("--rfc-markers")
    if file:
        Path(file).write_text(json.dumps(list(_markers(session.items))), "utf-8")


def _markers(items: list[pytest.Item]) -> Iterator[tuple[list[str], str]]:
    for item in items:
        if item.get_closest_marker("skip") or item.get_closest_marker("xfail"):
            continue  # shows nothing
        for marker in item.iter_markers("rfc"):
            yield [str(part) for part in marker.args], item.nodeid.partition("[")[0]


def collect_tests(*arguments: str) -> Tests:
    """What the markers of all tests say. In a process of its own, so that it doesn't matter which tests run now.

    Raises CatalogueError when pytest can't collect the tests, or a marker doesn't have its three arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "markers.json")
        command = [sys.executable, "-m", "pytest", "-p", "tests.rfc_table", "--collect-only", "-qq", "-rN"]
        command += [f"--rfc-markers={file}", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stdout + done.stderr
            raise CatalogueError(f"pytest can't collect the tests:\n{said[said.find('= ERRORS =') :][-3000:]}")
        markers = json.loads(file.read_text("utf-8"))
    found: dict[Key, dict[str, None]] = defaultdict(dict)
    for arguments_of_marker, test in markers:
        if len(arguments_of_marker) != 3:
            raise CatalogueError(f'{test}: rfc("number", "section", "id"), not {arguments_of_marker}')
        found[Key(*arguments_of_marker)][test] = None
    return {key: tuple(tests) for key, tests in found.items()}


# -- what doesn't agree ----------------------------------------------------------------------------------------------


def pending(catalogue: Catalogue, tests: Tests) -> list[str]:
    """Requirements that no test shows, and that give no reason for it."""
    return [f"{one.key}: {one.text}" for one in catalogue.requirements if not one.untested and one.key not in tests]


def unknown(catalogue: Catalogue, tests: Tests) -> list[str]:
    """Markers that name nothing of the catalogue."""
    known = {one.key for one in catalogue.requirements}
    return [f"{key}: {', '.join(names)}" for key, names in tests.items() if key not in known]


def tested_all_the_same(catalogue: Catalogue, tests: Tests) -> list[str]:
    """Requirements that are said to have no test, but have one."""
    return [f"{one.key}: {one.untested}" for one in catalogue.requirements if one.untested and one.key in tests]


# -- the table -------------------------------------------------------------------------------------------------------


def table(catalogue: Catalogue, tests: Tests) -> str:
    """The Markdown between the two comments of the page."""
    parts: list[str] = [_summary(catalogue, tests)]
    for rfc, title in catalogue.titles.items():
        parts.append(f"### RFC {rfc}: {title}\n\n| section | | requirement | shown by |\n|---|---|---|---|\n")
        parts += [_row(one, tests.get(one.key, ())) for one in catalogue.requirements if one.key.rfc == rfc]
        parts.append("\n")
    return "\n" + "".join(parts)


def _summary(catalogue: Catalogue, tests: Tests) -> str:
    shown = sum(one.key in tests for one in catalogue.requirements)
    excused = sum(bool(one.untested) for one in catalogue.requirements)
    total = len(catalogue.requirements)
    rest = f" {total - shown - excused} are pending." if total > shown + excused else ""
    return f"{total} requirements: {shown} have tests, {excused} say why they have none.{rest}\n\n"


def _row(one: Requirement, tests: tuple[str, ...]) -> str:
    names: dict[str, list[str]] = defaultdict(list)
    for test in sorted(tests):
        file, _, name = test.partition("::")
        names[file].append(f"`{name.removeprefix('test_')}`")
    shown = "<br>".join(
        f"[{file.removeprefix('tests/')}](../{file}): {', '.join(found)}" for file, found in names.items()
    )
    return f"| §{one.key.section} | {LEVELS[one.level]} | {one.text} | {shown or one.untested or '**pending**'} |\n"


def with_table(page: str, new: str) -> str:
    """The page with the table in its place; raises CatalogueError when the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CatalogueError(f"{PAGE.name} lacks the lines {BEGIN.strip()} and {END.strip()}")
    return before + begin + new + end + after


def main() -> int:
    """Writes the table into the page, and says what doesn't agree."""
    try:
        catalogue, tests = read_catalogue(CATALOGUE.read_text("utf-8")), collect_tests()
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), table(catalogue, tests)), "utf-8")
    except CatalogueError as error:
        print(error, file=sys.stderr)
        return 1
    faults = {
        "no test shows": pending(catalogue, tests),
        "a test names what tests/requirements.toml doesn't have": unknown(catalogue, tests),
        "has a test after all": tested_all_the_same(catalogue, tests),
    }
    for what, found in faults.items():
        print("".join(f"{what}: {one}\n" for one in found), end="", file=sys.stderr)
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
