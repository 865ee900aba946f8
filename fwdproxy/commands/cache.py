"""`fwdproxy cache …`: look after what is stored, whether the proxy runs or not."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from fwdproxy.commands import output, show
from fwdproxy.commands.reach import Doer, each, every, holders, settings_of, stored, work
from fwdproxy.commands.warm import warm as warm_all
from fwdproxy.control import urls
from fwdproxy.control.messages import (
    IN_MEMORY,
    Checked,
    Ls,
    Progress,
    Purge,
    Purged,
    Remark,
    Show,
    Statistics,
    Stats,
    Verify,
)
from fwdproxy.errors import FwdProxyError

app = typer.Typer(
    name="cache",
    help="Look after what is stored, whether the proxy runs or not.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The TOML file with settings that the proxy was given.")
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="Folder of the cache; default: the user's data folder.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
FieldLines = Annotated[
    list[str] | None,
    typer.Option("-H", "--header", metavar="FIELD", help="A request field: 'Name: value'. Repeatable."),
]
ALL: Final = 10**9
DELETION_PATIENCE: Final = 60.0
"""Seconds that `forget` waits until what it outdated is deleted, too."""


@app.command()
def purge(
    url: Annotated[str | None, typer.Option(metavar="URL", help="Responses to this URL.")] = None,
    prefix: Annotated[str | None, typer.Option(metavar="URL", help="Responses to all URLs that begin so.")] = None,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Responses of this host; .HOST: also of all below it.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Responses with this tag in Cache-Tag, Surrogate-Key or xkey.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="Responses of this group (Cache-Groups) of --origin.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(metavar="ORIGIN", help="The origin that --group is of, as https://example.com.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All responses.")] = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Outdate stored responses. Every process on the cache obeys at once."""
    named = {"url": url, "prefix": prefix, "host": host, "tag": tag, "group": group, "all": "" if everything else None}
    given = [(kind, value) for kind, value in named.items() if value is not None]
    if len(given) != 1:
        raise FwdProxyError("say what to purge by one of --url, --prefix, --host, --tag, --group or --all")
    [(kind, value)] = given
    if (kind == "group") != (origin is not None):
        raise FwdProxyError("--group and --origin go together: a group's name is its origin's own (RFC 9875)")
    command = Purge(kind=kind, value=value, origin=origin or "")

    async def job(doers: list[Doer]) -> int:
        purged, faults = await _purge(doers, command)
        for what in purged:
            typer.echo(f"purged: {output.printable(what)}")
        for fault in faults:
            raise fault
        return 0

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


@app.command()
def forget(
    host: Annotated[str, typer.Argument(metavar="HOST", help="A host; .HOST: it and all below it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Forget all that is stored of a host, and make sure that nothing is left."""

    async def job(doers: list[Doer]) -> int:
        asked = await holders(doers)
        count, _ = await _count(asked, host)
        if count and not yes and sys.stdin.isatty():
            typer.confirm(f"Forget {count} stored responses of {host}?", abort=True)
        _, faults = await _purge(doers, Purge(kind="host", value=host))
        for fault in faults:
            raise fault
        until = time.monotonic() + DELETION_PATIENCE
        while any(left := await _count(asked, host)) and time.monotonic() < until:
            if left[0]:
                raise FwdProxyError(f"{left[0]} responses of {host} came just now; try again")
            await asyncio.sleep(0.2)
        rest = f"{left[1]} are still to be deleted from the disk" if left[1] else "nothing of it is left"
        typer.echo(f"forgot {count} responses of {host}; {rest}")
        return 0

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


async def _purge(doers: list[Doer], command: Purge) -> tuple[list[str], list[FwdProxyError]]:
    """In every process: what one stores in memory, no other reaches. What was purged, and the faults of those that
    don't answer. Raises FwdProxyError where none does.
    """
    told, faults = await every(doers, command)
    events = [event for _, events in told for event in events]
    for remark in dict.fromkeys(event.text for event in events if isinstance(event, Remark)):
        typer.echo(output.printable(remark), err=True)
    purged = [f"{event.kind} {event.value}".strip() for event in events if isinstance(event, Purged)]
    return list(dict.fromkeys(purged)), faults


async def _count(doers: list[Doer], host: str) -> tuple[int, int]:
    """How many responses of ``host`` can be used, and how many can't and only wait to be deleted."""
    outdated = [entry.outdated async for entry in stored(doers, Ls(host=host, limit=ALL))]
    return outdated.count(False), outdated.count(True)


@app.command()
def stats(as_json: AsJson = False, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Say how full the cache is."""

    async def job(doers: list[Doer]) -> int:
        for doer in await holders(doers):
            async for event in each(doer, Stats()):
                if isinstance(event, Statistics):
                    typer.echo(output.json(event) if as_json else "\n".join(_filled(event)))
        return 0

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


def _filled(by: Statistics) -> tuple[str, str]:
    beside = " and in memory" if by.memory and by.folder != IN_MEMORY else ""
    share = by.bytes / by.limit if by.limit else 0
    return (
        f"{by.objects} responses in {by.folder}{beside}",
        f"{output.size(by.bytes)} of {output.size(by.limit)} used ({share:.0%})",
    )


@app.command()
def ls(
    host: Annotated[str, typer.Option(metavar="HOST", help="Of this host; .HOST: also of all below it.")] = "",
    prefix: Annotated[str, typer.Option(metavar="URL", help="Of URLs that begin so.")] = "",
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most this many.")] = 1000,
    long: Annotated[bool, typer.Option("--long", help="Also type, when received, when last used.")] = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """List stored responses: status, size, freshness, URL."""

    async def job(doers: list[Doer]) -> int:
        shown = 0
        async for entry in stored(await holders(doers), Ls(host=host, prefix=prefix, limit=limit + 1)):
            if shown == limit:
                typer.echo(f"there are more than these {limit}; --limit shows more", err=True)
                break
            shown += 1
            typer.echo(output.json(entry) if as_json else show.in_list(entry, long=long))
        return 0

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


@app.command("show")
def show_url(
    url: Annotated[str, typer.Argument(metavar="URL")],
    as_json: AsJson = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Show all that is stored for one URL; the exit status is 1 where nothing can be used."""

    async def job(doers: list[Doer]) -> int:
        found = False
        async for entry in stored(await holders(doers), Show(url=url)):
            found = found or not entry.outdated
            typer.echo(output.json(entry) if as_json else "\n".join(show.whole(entry)))
        if not found:
            typer.echo(f"nothing that can be used is stored for {url}", err=True)
        return 0 if found else 1

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


@app.command()
def verify(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Read every stored response, and remove what is broken."""

    async def job(doers: list[Doer]) -> int:
        found: list[Checked] = []
        with output.progress("verifying") as showing:
            for doer in await holders(doers):
                async for event in each(doer, Verify()):
                    if isinstance(event, Progress):
                        showing.advance(event.done, event.total)
                    elif isinstance(event, Checked):
                        found.append(event)
        removed = [url for checked in found for url in checked.removed]
        for url in removed:
            typer.echo(f"removed: {output.printable(url)}")
        broken = f"{len(removed)} broken and removed" if removed else "none broken"
        read = output.size(sum(checked.bytes for checked in found))
        typer.echo(f"{sum(checked.checked for checked in found)} responses, {read}: {broken}")
        return 0

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


@app.command()
def warm(
    source: Annotated[str, typer.Argument(metavar="FILE", help="URLs, one a line, or a sitemap; -: standard input.")],
    header: FieldLines = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Fetch a list of URLs through the running proxy, a few at a time; the exit status is 1 when some failed."""
    fields = urls.fields_of(header or ())
    raise typer.Exit(
        work(settings_of(config_file, data_dir), lambda doers: warm_all(doers[0], source, fields), fetches=True)
    )
