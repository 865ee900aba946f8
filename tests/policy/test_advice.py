"""For every reason: what would have to change."""

import pytest

from fwdproxy.policy.advice import advice
from fwdproxy.policy.decisions import Reason
from tests.policy.test_reasons import reasons

# Stored or served as the origin wants it: nothing is to be changed.
GOOD = {"s-maxage", "max-age", "expires", "stored"}


@pytest.mark.parametrize("reason", reasons(), ids=lambda reason: reason.code)
def test_every_reason_has_advice(reason: Reason) -> None:
    said = advice(reason)
    assert bool(said) is (reason.code not in GOOD)
    assert not said.endswith(".")
    assert said == said.strip()
    assert "  " not in said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("no-store", "leave no-store out"),
        ("private", "leave private out"),
        ("no-lifetime", "max-age=3600"),
        ("authorization", "share_authorized"),
        ("rule-bypass", "bypass = false"),
        ("vary-miss", "Vary"),
        ("post", "Content-Location"),
    ],
)
def test_it_names_what_is_to_be_sent_or_set(code: str, words: str) -> None:
    assert words in advice(Reason(code, "", ""))


def test_a_reason_of_somebody_else_has_none() -> None:
    assert advice(Reason("unheard-of", "", "")) == ""
