"""Times and rules in plain words."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from fwdproxy.control import wording
from fwdproxy.policy.rules import NO_RULE, Rule


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (61, "1m 1s"),
        (3600, "1h"),
        (3601, "1h"),
        (90_000, "1d 1h"),
        (86_460, "1d"),
        (-5, "5s"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert wording.span(seconds) == text


def test_every_effect_of_a_rule_has_words() -> None:
    assert wording.effects(NO_RULE) == ()
    for field in fields(Rule):
        value: Any = True if field.type == "bool" else 300
        [said] = wording.effects(Rule(**{field.name: value}))
        assert said.startswith(f"{field.name}: ")
        assert value is True or "5m" in said
