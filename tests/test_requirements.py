"""Every requirement of the RFCs on a shared cache has a test, or says why it has none; docs/caching.md lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import rfc_table
from tests.rfc_table import Catalogue, CatalogueError, Key, Requirement, Tests

FORM = """
["9111"]
title = "HTTP Caching"
["9111"."3"]
no-store = { must = "not stored" }
clock = { should = "has a clock", inapplicable = "it has" }
["9111"."5.2.2.5"]
no-store = { is = "so" }
"""

NO_STORE, CLOCK, SO = Key("9111", "3", "no-store"), Key("9111", "3", "clock"), Key("9111", "5.2.2.5", "no-store")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return rfc_table.read_catalogue(rfc_table.CATALOGUE.read_text("utf-8"))


@pytest.fixture(scope="module")
def tests() -> Tests:
    return rfc_table.collect_tests()


def test_every_requirement_has_a_test_or_a_reason(catalogue: Catalogue, tests: Tests) -> None:
    assert rfc_table.pending(catalogue, tests) == []


def test_every_marker_names_a_requirement(catalogue: Catalogue, tests: Tests) -> None:
    assert rfc_table.unknown(catalogue, tests) == []


def test_what_has_a_test_gives_no_reason_for_having_none(catalogue: Catalogue, tests: Tests) -> None:
    assert rfc_table.tested_all_the_same(catalogue, tests) == []


def test_the_table_is_up_to_date(catalogue: Catalogue, tests: Tests) -> None:
    """When this fails: make docs."""
    page = rfc_table.PAGE.read_text("utf-8")
    assert page == rfc_table.with_table(page, rfc_table.table(catalogue, tests))


def test_sections_come_in_order(catalogue: Catalogue) -> None:
    for rfc in catalogue.titles:
        sections = [
            [int(n) for n in one.key.section.split(".")] for one in catalogue.requirements if one.key.rfc == rfc
        ]
        assert sections == sorted(sections)


def test_a_catalogue() -> None:
    assert rfc_table.read_catalogue(FORM) == Catalogue(
        {"9111": "HTTP Caching"},
        (
            Requirement(NO_STORE, "must", "not stored"),
            Requirement(CLOCK, "should", "has a clock", "does not apply: it has"),
            Requirement(SO, "is", "so"),
        ),
    )


@pytest.mark.parametrize(
    "entry",
    [
        "{}",
        '{ must = "a", should = "b" }',
        '{ undone = "a" }',
        '{ must = "a", undone = "b", inapplicable = "c" }',
        '{ must = "a", because = "b" }',
    ],
)
def test_a_catalogue_of_another_form(entry: str) -> None:
    with pytest.raises(CatalogueError, match="RFC 9111 §3 x: one of must"):
        rfc_table.read_catalogue(f'["9111"]\ntitle = ""\n["9111"."3"]\nx = {entry}')


def test_what_does_not_agree() -> None:
    catalogue = rfc_table.read_catalogue(FORM)
    other = Key("9111", "3", "no-stoer")
    tests = {CLOCK: ("a.py::test_a",), other: ("b.py::test_b", "c.py::test_c")}
    assert rfc_table.pending(catalogue, tests) == [
        "RFC 9111 §3 no-store: not stored",
        "RFC 9111 §5.2.2.5 no-store: so",
    ]
    assert rfc_table.unknown(catalogue, tests) == ["RFC 9111 §3 no-stoer: b.py::test_b, c.py::test_c"]
    assert rfc_table.tested_all_the_same(catalogue, tests) == ["RFC 9111 §3 clock: does not apply: it has"]


def test_a_table() -> None:
    in_b = ("tests/policy/test_b.py::test_b", "tests/policy/test_b.py::test_c")
    tests = {NO_STORE: (*in_b, "tests/e2e/test_a.py::test_a")}
    begin, end = rfc_table.BEGIN, rfc_table.END
    page = rfc_table.with_table(
        f"before\n{begin}old\n{end}after\n", rfc_table.table(rfc_table.read_catalogue(FORM), tests)
    )
    assert page == (
        f"before\n{begin}\n"
        "3 requirements: 1 have tests, 1 say why they have none. 1 are pending.\n\n"
        "### RFC 9111: HTTP Caching\n\n| section | | requirement | shown by |\n|---|---|---|---|\n"
        "| §3 | must | not stored | [e2e/test_a.py](../tests/e2e/test_a.py): `a`<br>"
        "[policy/test_b.py](../tests/policy/test_b.py): `b`, `c` |\n"
        "| §3 | should | has a clock | does not apply: it has |\n"
        f"| §5.2.2.5 |  | so | **pending** |\n\n{end}after\n"
    )
    with pytest.raises(CatalogueError, match="lacks the lines"):
        rfc_table.with_table("nothing", "")


MARKED = """
from pathlib import Path

import pytest

@pytest.mark.rfc("9111", "3", "no-store")
@pytest.mark.parametrize("x", [1, 2])
def test_once(x): ...

@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.rfc("9111", "3", "clock"))])
def test_one_parameter(x): ...

@pytest.mark.skip
@pytest.mark.rfc("9111", "3", "skipped")
def test_skipped(): ...

@pytest.mark.xfail
@pytest.mark.rfc("9111", "3", "failing")
def test_failing(): ...
"""


def test_markers_are_those_of_tests_that_would_run(tmp_path: Path) -> None:
    file = tmp_path / "test_marked.py"
    file.write_text(MARKED)
    found = rfc_table.collect_tests(str(file), f"--rootdir={tmp_path}")
    assert found == {NO_STORE: ("test_marked.py::test_once",), CLOCK: ("test_marked.py::test_one_parameter",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('import pytest\n@pytest.mark.rfc("9111", "3")\ndef test_x(): ...', 'test_x: rfc\\("number'),
        ("import nothing_of_this_name", "(?s)pytest can't collect .*nothing_of_this_name"),
    ],
)
def test_markers_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "test_marked.py"
    file.write_text(text)
    with pytest.raises(CatalogueError, match=message):
        rfc_table.collect_tests(str(file), f"--rootdir={tmp_path}")
