"""Every decision says why in words that a user can look up."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import fwdproxy.policy
from fwdproxy.policy.decisions import Forward, Reason, Refuse, Storing

DOCUMENT = Path(__file__).parents[2] / "docs" / "caching.md"
# Lifetimes of 0 seconds: a response with one is never served for that reason.
NEVER_SAID = {"expires-invalid", "stored", "validated"}


def reasons() -> list[Reason]:
    found: list[Reason] = []
    for info in pkgutil.iter_modules(fwdproxy.policy.__path__):
        module = importlib.import_module(f"fwdproxy.policy.{info.name}")
        for value in vars(module).values():
            if isinstance(value, Forward | Refuse | Storing):
                found.append(value.reason)
            elif isinstance(value, Reason):
                found.append(value)
    return found


@pytest.mark.parametrize("reason", reasons(), ids=lambda reason: reason.code)
def test_reasons_are_complete(reason: Reason) -> None:
    assert reason.code
    assert set(reason.code) <= set("abcdefghijklmnopqrstuvwxyz-")
    assert reason.section.startswith("RFC ")
    assert " §" in reason.section
    assert reason.text
    assert not reason.text.endswith(".")


def test_every_word_is_documented() -> None:
    text = DOCUMENT.read_text("utf-8")
    said = {reason.code for reason in reasons()} - NEVER_SAID
    assert len(said) > 30
    assert [code for code in sorted(said) if f"`{code}`" not in text] == []
