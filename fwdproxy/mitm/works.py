"""From settings to what works by them: origin client, store, exchange, access log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from fwdproxy.anonymize.rewrite import Rewriting
from fwdproxy.config import Settings
from fwdproxy.control import chosen
from fwdproxy.exchange.core import Exchange, ExchangeSettings
from fwdproxy.exchange.filling import FinishAlone
from fwdproxy.exchange.outcome import Outcome, access_line
from fwdproxy.messages import CacheKey
from fwdproxy.origin.client import OriginClient
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.policy import heuristics, keys
from fwdproxy.policy.rules import Rules
from fwdproxy.store.base import Store
from fwdproxy.store.disk import open_store
from fwdproxy.store.memory import open_memory
from fwdproxy.store.split import SplitStore

access_log = logging.getLogger("fwdproxy.access")

FILL_GRACE: Final = 2.0
"""Seconds that fills which nobody waits for get at the end."""


@dataclass(frozen=True, slots=True)
class Works:
    """What one set of settings built."""

    settings: Settings
    rewriting: Rewriting
    origin: OriginClient
    store: Store
    exchange: Exchange

    @classmethod
    def build(
        cls,
        settings: Settings,
        *,
        may_dial: Callable[[IPv4Address | IPv6Address, int], bool],
        before: Works | None = None,
    ) -> Works:
        """Build everything; the store of ``before`` is taken over where it is the same. Raises FwdProxyError."""
        heuristic = heuristics.load(settings.cache.heuristic) if settings.cache.heuristic else heuristics.TenthOfAge()
        rewriting = Rewriting(via=settings.via.name)
        rules = chosen.rules_of(settings)
        keying = chosen.keying_of(settings)
        origin = OriginClient(
            OriginSettings(
                connect_timeout=float(settings.origin.connect_timeout),
                head_timeout=float(settings.origin.head_timeout),
                idle_timeout=float(settings.origin.idle_timeout),
                ca_files=settings.origin.ca,
                allow=may_dial,
            )
        )
        if before is not None and _same_store(before.settings, settings):
            store = before.store
        else:
            store = _open(settings, rules)
        exchange = Exchange(
            origin,
            store,
            ExchangeSettings(
                policy=chosen.policy_of(settings),
                rewriting=rewriting,
                heuristic=heuristic,
                alone=FinishAlone(float(settings.cache.finish_share), int(settings.cache.finish_rest)),
                rules=rules,
                keying=keying,
                forward_validators=settings.forward_validators,
                patience=float(settings.cache.collapse_timeout),
                range_limit=int(settings.cache.range_limit),
                variance=settings.cache.no_vary_search,
            ),
            on_outcome=_write_line if settings.access_log else lambda outcome: None,
        )
        return cls(settings, rewriting, origin, store, exchange)

    async def aclose(self, keep: Works | None = None) -> None:
        """Finish or give up what is under way, and release what ``keep`` does not hold too."""
        await self.exchange.aclose(FILL_GRACE)
        await self.origin.aclose()
        if keep is None or keep.store is not self.store:
            await self.store.aclose()


def _open(settings: Settings, rules: Rules) -> Store:
    """The store on disk, in memory, or both where a rule keeps a part of the web in memory only."""
    cache = settings.cache
    if cache.memory:
        return open_memory(cache.memory_size)
    disk = open_store(settings.cache_dir, cache.size)
    if not any(rule.memory for rule in settings.rules):
        return disk

    def in_memory(key: CacheKey) -> bool:
        return rules.of(keys.target_of(key), None).memory

    return SplitStore(disk, open_memory(cache.memory_size, disk), in_memory)


def _same_store(old: Settings, new: Settings) -> bool:
    def what(settings: Settings) -> object:
        cache = settings.cache
        parted = [(rule.host, rule.path) for rule in settings.rules if rule.memory is not None]
        return settings.cache_dir, cache.size, cache.memory, cache.memory_size, parted

    return what(old) == what(new)


def _write_line(outcome: Outcome) -> None:
    access_log.info("%s", access_line(outcome))
