"""What is checked of the file's ``[[rules]]`` and ``[[recipes]]`` beyond the form of each value.

A rule that does nothing, or can't do what it says, is refused: its writer meant something else. What a recipe must be
like is known to `policy.keying`, which stands above; whoever loads a configuration hands its check down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from fwdproxy.config.complaints import Layer, numbered, shown
from fwdproxy.config.schema import RuleTable, Settings
from fwdproxy.errors import ConfigError

_CONDITIONS: Final = ("host", "path", "type")
_EFFECTS: Final = tuple(entry.name for entry in msgspec.structs.fields(RuleTable) if entry.name not in _CONDITIONS)
_MEDIA_RANGE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_PATH: Final = re.compile(r"[/*][\x21-\x7e]*")

# Whether to ask the origin, and where to store, is decided before any content type is known.
_BEFORE_TYPE: Final = ("offline", "memory")


def check_rules(settings: Settings, layer: Layer) -> None:
    """Raises ConfigError for the first rule of ``settings`` (made from ``layer``) that can't be meant so."""
    for index, rule in enumerate(settings.rules):
        for fault in _faults_of_rule(rule, layer.raw["rules"][index]):
            raise ConfigError(layer.spell(f"{numbered('rules', index)}: {fault}"))


def check_recipes(settings: Settings, layer: Layer, check: Callable[[str, str], object]) -> None:
    """Raises ConfigError for the first recipe whose pattern and key ``check`` raises one for, and names its place."""
    for index, recipe in enumerate(settings.recipes):
        try:
            check(recipe.pattern, recipe.key)
        except ConfigError as error:
            raise ConfigError(layer.spell(f"{numbered('recipes', index)}: {error}")) from None


def warnings(settings: Settings) -> tuple[str, ...]:
    """What is to be said aloud at a start, one line each: responses meant for one user go to all."""
    return tuple(
        f"{numbered('rules', index)} shares responses to requests with Authorization between all clients: "
        + ", ".join(map(str, rule.host))
        for index, rule in enumerate(settings.rules)
        if rule.share_authorized
    )


def _faults_of_rule(rule: RuleTable, raw: dict[str, Any]) -> Iterator[str]:
    stated = [name for name in _EFFECTS if getattr(rule, name) is not None]
    if not stated:
        yield f"changes nothing; state one of {', '.join(_EFFECTS)}"
    yield from _faults_of_conditions(rule, raw)
    yield from _faults_of_effects(rule, raw)


def _faults_of_conditions(rule: RuleTable, raw: dict[str, Any]) -> Iterator[str]:
    for name in _CONDITIONS:
        if name in raw and not raw[name]:
            yield f"{name} = [] matches nothing; name some, or leave {name} out to mean all"
    for glob in rule.path:
        if not _PATH.fullmatch(glob):
            yield f'path = {shown(glob)} is not a glob over the path of a URI; write one such as "/images/*"'
    for glob in rule.type:
        if not _MEDIA_RANGE.fullmatch(glob):
            yield f'type = {shown(glob)} is not a glob over media types; write one such as "image/*"'


def _faults_of_effects(rule: RuleTable, raw: dict[str, Any]) -> Iterator[str]:
    for name in _BEFORE_TYPE:
        if rule.type and getattr(rule, name) is not None:
            yield (
                f"type = {shown(rule.type)} can't go with {name}, which is decided before a type is known; "
                "select by host or path"
            )
    if rule.min_lifetime is not None and rule.max_lifetime is not None and rule.min_lifetime > rule.max_lifetime:
        yield (
            f"min_lifetime = {shown(raw['min_lifetime'])} is more than max_lifetime = {shown(raw['max_lifetime'])}; "
            "swap them"
        )
    if rule.share_authorized and not (rule.host and all(re.search(r"[^.*]", str(host)) for host in rule.host)):
        yield (
            "share_authorized = true gives one user's responses to all; say for which hosts it may, "
            'such as host = ["packages.example.com"]'
        )
