"""The README says what is so."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from fwdproxy import config
from fwdproxy.config import SETTINGS
from fwdproxy.control import chosen

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def table_of_settings() -> str:
    lines = ["| key | flag | mitmproxy option | default | |", "|---|---|---|---|---|"]
    for setting in SETTINGS:
        option = f"`{setting.option}`" if setting.for_mitmproxy else ""
        default = f"`{setting.default}`" if setting.default else ""
        flags = f"`{setting.flag}`" + (f", `--no-{setting.flag[2:]}`" if setting.kind is bool else "")
        repeatable = " A list." if setting.repeatable else ""
        lines.append(f"| `{setting.key}` | {flags} | {option} | {default} | {setting.about}{repeatable} |")
    return "\n".join(lines)


def test_the_table_of_settings() -> None:
    """When this fails: put the printed table in the place of the README's."""
    found = re.search(r"<!-- settings:[^\n]*-->\n(.*?)\n<!-- end of settings -->", README, re.DOTALL)
    assert found is not None
    assert found[1] == table_of_settings(), "\n" + table_of_settings()


def test_the_examples_of_configuration_are_valid(tmp_path: Path) -> None:
    examples = re.findall(r"^    # fwdproxy\.toml\n((?:^    .*\n|^\n)+)", README, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        file = tmp_path / "fwdproxy.toml"
        file.write_text(textwrap.dedent(example))
        settings = config.load(file)
        assert len(chosen.keying_of(settings).recipes) == len(settings.recipes)
        assert settings.recipes or settings.rules or settings.bypass


def test_the_two_commands_come_first() -> None:
    assert README.startswith("# fwdproxy\n\n    make run\n    make test\n")


@pytest.mark.parametrize("page", ["README.md", "certs/README.md"])
def test_links_within_the_repository_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), target


def test_every_target_that_is_told_of_exists() -> None:
    told = set(re.findall(r"`make (\w+)", README)) | set(re.findall(r"^    make (\w+)", README, re.MULTILINE))
    listed = subprocess.run(["make", "--silent", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told <= set(re.findall(r"make (\w+)", listed)) | {"help"}
    assert {"run", "test"} <= told
