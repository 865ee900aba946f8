"""From settings to what works by them: origin client, store, exchange, access log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from fwdproxy.anonymize.rewrite import Rewriting
from fwdproxy.config import Settings
from fwdproxy.exchange.core import Exchange, ExchangeSettings
from fwdproxy.exchange.outcome import Outcome, access_line
from fwdproxy.origin.client import OriginClient
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.policy import heuristics
from fwdproxy.policy.decisions import PolicySettings
from fwdproxy.store.disk import DiskStore, open_store

access_log = logging.getLogger("fwdproxy.access")

FILL_GRACE: Final = 2.0
"""Seconds that fills which nobody waits for get at the end."""


@dataclass(frozen=True, slots=True)
class Works:
    """What one set of settings built."""

    settings: Settings
    rewriting: Rewriting
    origin: OriginClient
    store: DiskStore
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
            store = open_store(settings.cache_dir, settings.cache.size)
        exchange = Exchange(
            origin,
            store,
            ExchangeSettings(
                policy=PolicySettings(grace=int(settings.cache.grace)),
                rewriting=rewriting,
                heuristic=heuristic,
                forward_validators=settings.forward_validators,
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


def _same_store(old: Settings, new: Settings) -> bool:
    return (old.cache_dir, old.cache.size) == (new.cache_dir, new.cache.size)


def _write_line(outcome: Outcome) -> None:
    access_log.info("%s", access_line(outcome))
