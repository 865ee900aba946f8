"""From settings to what policy calls them: the keys, the rules, the standing of fields."""

from __future__ import annotations

from fwdproxy.config import RuleTable, Settings
from fwdproxy.errors import ConfigError
from fwdproxy.policy.decisions import PolicySettings
from fwdproxy.policy.keying import IgnoredParams, Keying, Recipe
from fwdproxy.policy.rules import Rules


def keying_of(settings: Settings) -> Keying:
    """How keys are made. Raises ConfigError that names the number of a recipe which can't be used."""
    recipes = []
    for number, table in enumerate(settings.recipes, 1):
        try:
            recipes.append(Recipe.build(table.pattern, table.key))
        except ConfigError as error:
            raise ConfigError(f"recipe {number}: {error}") from None
    cache = settings.cache
    return Keying(tuple(recipes), IgnoredParams.build(cache.ignore_params, tracking=cache.ignore_tracking))


def rules_of(settings: Settings) -> Rules:
    """The user's rules; what ``[cache]`` says of all requests comes last, so that a rule can say otherwise."""
    cache = settings.cache
    general = RuleTable(
        offline=cache.offline or None,
        memory=cache.memory or None,
        retention=cache.retention,
    )
    return Rules.build((*settings.rules, general) if general != RuleTable() else settings.rules)


def policy_of(settings: Settings) -> PolicySettings:
    """What the decisions of policy go by."""
    cache = settings.cache
    return PolicySettings(grace=int(cache.grace), targets=tuple(name.encode() for name in cache.targets))
