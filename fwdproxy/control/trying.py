"""What settings would make of a request, whatever the running proxy was started with: for who tries a file out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from fwdproxy.config import Settings
from fwdproxy.control import chosen, urls
from fwdproxy.control.describe import BY_ORIGIN, Describer
from fwdproxy.control.messages import Entry, Explain, Explanation

Look = Callable[[Explain], Awaitable[Explanation]]


async def plan(settings: Settings, command: Explain, look: Look | None) -> Explanation:
    """The answer to a dry run of ``command`` by ``settings``: key, rules, and what is stored.

    ``look`` does dry runs on what is stored, by settings that may be others; None: nothing is. Raises FwdProxyError.
    """
    target = urls.target_of(command.url)
    urls.headers_of(command.fields)  # wrong ones are refused here as by a proxy
    made = chosen.keying_of(settings).uri(target)
    key, stored = made.uri, dict[tuple[str, str, str], Entry]()
    for uri in dict.fromkeys((str(target), made.uri)):
        if look is None:
            break
        theirs = await look(Explain(url=uri, dry_run=True))
        if uri == made.uri and settings.cache.no_vary_search and theirs.keyed_by == BY_ORIGIN:
            key = theirs.key  # only who has the store knows what the origin said of queries
        for entry in theirs.stored:
            if entry.url in (uri, key):
                stored[entry.url, entry.kind + entry.content, entry.ident] = entry
    return Describer(chosen.rules_of(settings), time.time).plan(target, key, made.why, tuple(stored.values()))
