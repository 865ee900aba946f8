"""`fwdproxy explain URL`: why an answer is a hit, a miss or uncacheable, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from fwdproxy.commands import output
from fwdproxy.commands.reach import Doer, each
from fwdproxy.commands.show import one_line
from fwdproxy.config import Settings
from fwdproxy.control import wording
from fwdproxy.control.messages import Explain, Explanation, Why
from fwdproxy.errors import FwdProxyError

_SOURCES: Final = {
    "cache": "from the cache",
    "validated": "from the cache; the origin confirmed that it is still good",
    "shared": "from a download that another request had begun",
    "origin": "from the origin",
    "proxy": "from the proxy itself",
}


async def explain(proxy: Doer, command: Explain) -> Explanation:
    """What the proxy has to say. Raises FwdProxyError."""
    async for event in each(proxy, command):
        if isinstance(event, Explanation):
            return event
    raise FwdProxyError("the proxy gave no explanation; is it another version?")


async def tried(doer: Doer | None, settings: Settings, command: Explain) -> Explanation:
    """What ``settings`` would make of the request, with what ``doer`` has stored. Raises FwdProxyError."""
    from fwdproxy.control import trying  # noqa: PLC0415  # brings the exchange along, which others don't need

    return await trying.plan(settings, command, None if doer is None else partial(explain, doer))


def text(explanation: Explanation, *, dry_run: bool) -> str:
    """The explanation as lines for people."""
    rows = [*_before(explanation), *(() if dry_run else _after(explanation))]
    lines = [output.printable(explanation.url)]
    for name, said in rows:
        first, *rest = said.split("\n")
        lines.append(f"  {name:<13} {output.printable(first)}")
        lines += [f"  {'':<13} {output.printable(line)}" for line in rest]
    return "\n".join(lines)


def _before(explanation: Explanation) -> Iterator[tuple[str, str]]:
    if not explanation.key:
        yield "key", "none: the cache is passed by"
    elif explanation.keyed_by:
        yield "key", f"{explanation.key}\nbecause of {explanation.keyed_by}"
    else:
        yield "key", f"{explanation.key}"
    yield "your rules", "\n".join(explanation.rule) or "none for this URL"
    yield "stored before", "\n".join(one_line(entry) for entry in explanation.stored) or "nothing"


def _after(explanation: Explanation) -> Iterator[tuple[str, str]]:
    fault = f" ({explanation.fault})" if explanation.fault else ""
    yield "answer", f"{explanation.status} {_SOURCES.get(explanation.source, explanation.source)}{fault}"
    if explanation.why is not None:
        # What was asked of the origin, and failed, mends nothing.
        failed = explanation.fault not in ("", explanation.why.code)
        yield "because", _said(explanation.why, advise=not failed)
    if explanation.kept:
        yield "stored now", "yes"
    elif explanation.kept_why is not None:
        yield "stored now", "no: " + _said(explanation.kept_why, advise=True)
    if explanation.lifetime is not None:
        why = explanation.lifetime_why
        because = "" if why is None or why == explanation.why else f": {_said(why, advise=False)}"
        yield "fresh for", wording.span(explanation.lifetime) + because
    yield "Cache-Status", explanation.cache_status


def _said(why: Why, *, advise: bool) -> str:
    where = f"{why.code}, {why.section}" if why.section else why.code
    return f"{why.text} ({where})" + (f"\n→ {why.advice}" if advise and why.advice else "")
