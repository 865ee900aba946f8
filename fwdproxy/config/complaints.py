"""The words for what is wrong with a configuration: one line with place, value and remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from fwdproxy.config.schema import SETTINGS, TABLES


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings: nested raw values, where its relative paths start, and how it spells a key."""

    raw: dict[str, Any]
    base: Path
    spell: Callable[[str], str]


_EXPECTED: Final = {
    "array": 'a list; write it in brackets, such as ["…"]',
    "object": "a table; write its settings below a line such as [cache]",
    "bool": "a switch; write true or false",
    "str": "text; write it in quotation marks",
}
_SHOWN: Final = 200  # characters of a wrong value


def explain(message: str, layer: Layer) -> str:
    """One line on what msgspec complains of: place, value and remedy."""
    complaint, _, path = message.partition(" - at `$")
    steps = re.findall(r"[^.\[\]`]+", path)
    unknown = re.search(r"unknown field `(.*)`", complaint, re.DOTALL)
    if unknown:
        return _unknown_in(steps, unknown[1], layer)
    missing = re.search(r"missing required field `(.*)`", complaint)
    if missing:
        return f'{_place(steps, layer)} has no {missing[1]}; write one, such as {missing[1]} = "…"'
    value: Any = layer.raw
    for step in steps:
        value = value[int(step)] if step.isdigit() else value[step]
    expected = re.match(r"Expected `(\w+)", complaint)
    if expected:
        complaint = f"is not {_wanted(expected[1], steps)}"
    return f"{_place(steps, layer)} = {shown(value)} {complaint}"


def shown(value: object) -> str:
    """A value as a file would have it, on one line and cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def numbered(table: str, index: int) -> str:
    """How people count the tables of a list: ``rule 2``."""
    return f"{table.removesuffix('s')} {index + 1}"


def _wanted(expected: str, steps: Sequence[str]) -> str:
    if steps and steps[0] in TABLES and len(steps) <= 2:
        return f"a list of tables; write each below a line [[{steps[0]}]]"
    return _EXPECTED.get(expected, expected)


def _place(steps: Sequence[str], layer: Layer) -> str:
    if len(steps) > 1 and steps[0] in TABLES and steps[1].isdigit():
        named = [step for step in steps[2:] if not step.isdigit()]
        return layer.spell(": ".join([numbered(steps[0], int(steps[1])), *named]))
    return layer.spell(".".join(step for step in steps if not step.isdigit()))


def _unknown_in(steps: Sequence[str], name: str, layer: Layer) -> str:
    if steps and steps[0] in TABLES:
        known = [entry.name for entry in msgspec.structs.fields(TABLES[steps[0]])]
        place = f"{_place(steps, layer)}: {_printable(name)}"
        return f"{place} is not part of a {steps[0].removesuffix('s')}; {_remedy(name, known, 'its parts are')}"
    return _unknown(".".join([*steps, name]), layer)


def _unknown(key: str, layer: Layer) -> str:
    known = [setting.key for setting in SETTINGS]
    if key in known and key in layer.raw:  # '"cache.size" = …': in quotation marks, TOML takes the dot for a letter
        table, _, name = key.rpartition(".")
        return (
            f"{layer.spell(json.dumps(key))} is one name to TOML, dot included; "
            f"write {key} = … without quotation marks, or {name} = … below a line [{table}]"
        )
    return f"{layer.spell(_printable(key))} is not a setting; {_remedy(key, [*known, *TABLES], 'the settings are')}"


def _printable(key: str) -> str:
    return key if key.isprintable() and len(key) <= _SHOWN else json.dumps(key)[:_SHOWN]


def _remedy(key: str, known: Sequence[str], all_are: str) -> str:
    # A key of thousands of characters is no slip of the pen, and comparing it would take long.
    close = difflib.get_close_matches(key[:_SHOWN], known, n=1)
    return f"did you mean {close[0]}?" if close else f"{all_are} {', '.join(known)}"
