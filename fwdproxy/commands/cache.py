"""`fwdproxy cache …`: look after what is stored, whether the proxy runs or not."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from fwdproxy.commands import output, show
from fwdproxy.commands.reach import Doer, each, settings_of, work
from fwdproxy.commands.warm import warm as warm_all
from fwdproxy.control import urls
from fwdproxy.control.messages import (
    Checked,
    Entry,
    Ls,
    Progress,
    Purge,
    Purged,
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
        for what in await _purge(doers, command):
            typer.echo(f"purged: {output.printable(what)}")
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
        count, _ = await _count(doers[0], host)
        if count and not yes and sys.stdin.isatty():
            typer.confirm(f"Forget {count} stored responses of {host}?", abort=True)
        await _purge(doers, Purge(kind="host", value=host))
        until = time.monotonic() + DELETION_PATIENCE
        while any(left := await _count(doers[0], host)) and time.monotonic() < until:
            if left[0]:
                raise FwdProxyError(f"{left[0]} responses of {host} came just now; try again")
            await asyncio.sleep(0.2)
        rest = f"{left[1]} are still to be deleted from the disk" if left[1] else "nothing of it is left"
        typer.echo(f"forgot {count} responses of {host}; {rest}")
        return 0

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


async def _purge(doers: list[Doer], command: Purge) -> list[str]:
    """In every process: what one stores in memory, no other reaches."""
    said: dict[str, None] = {}
    for doer in doers:
        async for event in each(doer, command):
            if isinstance(event, Purged):
                said[f"{event.kind} {event.value}".strip()] = None
    return list(said)


async def _count(doer: Doer, host: str) -> tuple[int, int]:
    """How many responses of ``host`` can be used, and how many can't and only wait to be deleted."""
    found = [event async for event in each(doer, Ls(host=host, limit=ALL))]
    outdated = [event.outdated for event in found if isinstance(event, Entry)]
    return outdated.count(False), outdated.count(True)


@app.command()
def stats(as_json: AsJson = False, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Say how full the cache is."""

    async def job(doers: list[Doer]) -> int:
        async for event in each(doers[0], Stats()):
            if not isinstance(event, Statistics):
                continue
            if as_json:
                typer.echo(output.json(event))
            else:
                share = event.bytes / event.limit if event.limit else 0
                typer.echo(f"{event.objects} responses in {event.folder}")
                typer.echo(f"{output.size(event.bytes)} of {output.size(event.limit)} used ({share:.0%})")
        return 0

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


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
        async for event in each(doers[0], Ls(host=host, prefix=prefix, limit=limit + 1)):
            if isinstance(event, Entry) and shown < limit:
                shown += 1
                typer.echo(output.json(event) if as_json else show.in_list(event, long=long))
            elif isinstance(event, Entry):
                typer.echo(f"there are more than these {limit}; --limit shows more", err=True)
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
        async for event in each(doers[0], Show(url=url)):
            if isinstance(event, Entry):
                found = found or not event.outdated
                typer.echo(output.json(event) if as_json else "\n".join(show.whole(event)))
        if not found:
            typer.echo(f"nothing that can be used is stored for {url}", err=True)
        return 0 if found else 1

    raise typer.Exit(work(settings_of(config_file, data_dir), job))


@app.command()
def verify(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Read every stored response, and remove what is broken."""

    async def job(doers: list[Doer]) -> int:
        found = Checked(checked=0, bytes=0)
        with output.progress("verifying") as showing:
            async for event in each(doers[0], Verify()):
                if isinstance(event, Progress):
                    showing.advance(event.done, event.total)
                elif isinstance(event, Checked):
                    found = event
        for url in found.removed:
            typer.echo(f"removed: {output.printable(url)}")
        broken = f"{len(found.removed)} broken and removed" if found.removed else "none broken"
        typer.echo(f"{found.checked} responses, {output.size(found.bytes)}: {broken}")
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
