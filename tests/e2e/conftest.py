"""What the end-to-end tests share: one origin, and one instance of each program for the whole run.

Tests take a fresh path of the origin each, so they don't disturb one another in the common store. A test that needs
a program of its own (other options, a restart, a crash) starts one with the fixture ``start``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.authority import Authority
from tests.e2e.configured import CONFIG
from tests.e2e.origin import Origin
from tests.e2e.programs import Program, start_fwdproxy, start_mitmdump
from tests.e2e.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("fwdproxy", "mitmdump")
BYPASSED = "127.0.0.2"
"""A host on the ``bypass`` list of every program the tests start."""

Start = Callable[..., Program]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def origin(authority: Authority) -> Iterator[Origin]:
    with Origin(authority.server_context()) as running:
        yield running


@pytest.fixture(scope="session")
def other_origin(authority: Authority) -> Iterator[Origin]:
    """A second origin: the same host, other ports."""
    with Origin(authority.server_context()) as running:
        yield running


def start_program(kind: str, folder: Path, authority: Authority, **more: Any) -> Program:
    """Starts ``kind`` with the bypass list and the trust that all tests rely on."""
    if kind == "fwdproxy":
        config = f'bypass = ["{BYPASSED}"]\n' + more.pop("config", "")
        return start_fwdproxy(folder, origin_ca=authority.ca_file, config=config, **more)
    options = {"fwd_bypass": BYPASSED} | more.pop("options", {})
    return start_mitmdump(folder, origin_ca=authority.ca_file, options=options, **more)


@pytest.fixture(scope="session", params=PROGRAMS)
def shared_program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Program]:
    program = start_program(request.param, tmp_path_factory.mktemp(request.param), authority)
    yield program
    program.stop()


@pytest.fixture(scope="session", params=PROGRAMS)
def configured_program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp(f"configured-{request.param}")
    if request.param == "fwdproxy":
        program = start_program(request.param, folder, authority, config=CONFIG)
    else:
        file = folder / "fwdproxy.toml"
        file.write_text(CONFIG)
        program = start_program(request.param, folder, authority, options={"fwd_config": str(file)})
    # mitmdump listens before it has loaded the script.
    until(lambda: any(program.data_dir.glob("control/*.sock")))
    yield program
    program.stop()


@pytest.fixture
def proxy(shared_program: Program, request: pytest.FixtureRequest) -> Program:
    """The running program, once ``fwdproxy run`` and once ``mitmdump -s addons/cache.py``."""
    return _running(shared_program, request)


@pytest.fixture
def configured(configured_program: Program, request: pytest.FixtureRequest) -> Program:
    """Each program with the file of tests/e2e/configured.py: ``--config`` for one, ``fwd_config`` for the other."""
    return _running(configured_program, request)


def _running(program: Program, request: pytest.FixtureRequest) -> Program:
    request.node.stash[OUTPUT] = [(program, len(program.text()))]
    status = program.process.poll()
    assert status is None, f"{program.name} ended with {status}:\n{program.text()[-4000:]}"
    return program


@pytest.fixture
def start(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a program of the test's own: ``start("fwdproxy", …)``; ended, and its exit checked, after the test."""
    running: list[Program] = []
    shown: list[tuple[Program, int]] = []
    request.node.stash[OUTPUT] = shown

    def launch(kind: str, folder: Path | None = None, **more: Any) -> Program:
        program = start_program(kind, folder or tmp_path / kind, authority, **more)
        running.append(program)
        shown.append((program, 0))
        return program

    yield launch
    for program in running:
        if program.process.poll() is None:
            program.stop()


OUTPUT = pytest.StashKey[list[tuple[Program, int]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds what the program printed during a failed test to its report."""
    report = yield
    if report.failed:  # type: ignore[attr-defined]
        for program, start_at in item.stash.get(OUTPUT, []):
            printed = program.text()[start_at:]
            report.sections.append((f"{program.name} printed", printed[-6000:]))  # type: ignore[attr-defined]
    return report
