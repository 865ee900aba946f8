"""The command line. Flags are spelled after the settings of `config`, which also holds their help."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fwdproxy import __version__, config
from fwdproxy.commands import cache, explain, output
from fwdproxy.commands.reach import Doer, settings_of, work
from fwdproxy.control import urls
from fwdproxy.control.messages import Explain
from fwdproxy.errors import FwdProxyError
from fwdproxy.policy.keying import Recipe

app = typer.Typer(
    name="fwdproxy",
    help="A forward caching proxy: one disk cache, shared by every client, for HTTP and HTTPS.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: whole flags at any width
    pretty_exceptions_enable=False,
)

app.add_typer(cache.app)

_SETTINGS = {setting.key: setting for setting in config.SETTINGS}


def _flag(key: str, metavar: str | None = None) -> Any:
    setting = _SETTINGS[key]
    about = setting.about + (" Repeatable." if setting.repeatable else "")
    return typer.Option(help=about, metavar=metavar, show_default=setting.default or False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fwdproxy {__version__}")
        raise typer.Exit


@app.callback()
def _fwdproxy(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Keeps each command one of its own."""


@app.command()
def run(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="A TOML file with settings; flags win over it.")
    ] = None,
    listen: Annotated[str | None, _flag("listen", "HOST:PORT")] = None,
    data_dir: Annotated[str | None, _flag("data_dir", "DIR")] = None,
    certs: Annotated[str | None, _flag("certs", "DIR")] = None,
    allow_client: Annotated[list[str] | None, _flag("allow_client", "CIDR")] = None,
    allow_destination: Annotated[list[str] | None, _flag("allow_destination", "CIDR")] = None,
    bypass: Annotated[list[str] | None, _flag("bypass", "HOST")] = None,
    via: Annotated[str | None, _flag("via", "NAME")] = None,
    access_log: Annotated[bool | None, _flag("access_log")] = None,
    forward_validators: Annotated[bool | None, _flag("forward_validators")] = None,
    cache_size: Annotated[str | None, _flag("cache.size", "SIZE")] = None,
    cache_grace: Annotated[str | None, _flag("cache.grace", "DURATION")] = None,
    cache_heuristic: Annotated[str | None, _flag("cache.heuristic", "CLASS")] = None,
    cache_collapse_timeout: Annotated[str | None, _flag("cache.collapse_timeout", "DURATION")] = None,
    cache_finish_share: Annotated[str | None, _flag("cache.finish_share", "PERCENTAGE")] = None,
    cache_finish_rest: Annotated[str | None, _flag("cache.finish_rest", "SIZE")] = None,
    cache_range_limit: Annotated[str | None, _flag("cache.range_limit", "SIZE")] = None,
    cache_targets: Annotated[list[str] | None, _flag("cache.targets", "FIELD")] = None,
    cache_no_vary_search: Annotated[bool | None, _flag("cache.no_vary_search")] = None,
    cache_ignore_tracking: Annotated[bool | None, _flag("cache.ignore_tracking")] = None,
    cache_ignore_params: Annotated[list[str] | None, _flag("cache.ignore_params", "GLOB")] = None,
    cache_offline: Annotated[bool | None, _flag("cache.offline")] = None,
    cache_memory: Annotated[bool | None, _flag("cache.memory")] = None,
    cache_memory_size: Annotated[str | None, _flag("cache.memory_size", "SIZE")] = None,
    cache_retention: Annotated[str | None, _flag("cache.retention", "DURATION")] = None,
    origin_ca: Annotated[list[str] | None, _flag("origin.ca", "FILE")] = None,
    origin_connect_timeout: Annotated[str | None, _flag("origin.connect_timeout", "DURATION")] = None,
    origin_head_timeout: Annotated[str | None, _flag("origin.head_timeout", "DURATION")] = None,
    origin_idle_timeout: Annotated[str | None, _flag("origin.idle_timeout", "DURATION")] = None,
) -> None:
    """Run the proxy until Ctrl-C or SIGTERM."""
    flags = {key: context.params[key.replace(".", "_")] for key in _SETTINGS}
    settings = config.load(config_file, flags, check_recipe=Recipe.build)
    # Here, since it brings mitmproxy along, and a wrong flag or --help shouldn't wait for that.
    from fwdproxy.serve import run as serve  # noqa: PLC0415

    raise typer.Exit(serve.run(settings))


@app.command("explain")
def explain_url(
    url: Annotated[str, typer.Argument(metavar="URL")],
    header: cache.FieldLines = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask no origin: key, rules, and what is stored.")] = False,
    as_json: cache.AsJson = False,
    config_file: cache.ConfigFile = None,
    data_dir: cache.DataDir = None,
) -> None:
    """Fetch a URL through the running proxy and say why the answer is a hit, a miss or uncacheable."""
    command = Explain(url=url, fields=urls.fields_of(header or ()), dry_run=dry_run)

    settings = settings_of(config_file, data_dir)

    async def job(doers: list[Doer]) -> int:
        if dry_run and (config_file is not None or not doers):
            # Whoever names a file tries that file: a running proxy knows only the one that it was started with.
            told = await explain.tried(doers[0] if doers else None, settings, command)
        else:
            told = await explain.explain(doers[0], command)
        typer.echo(output.json(told) if as_json else explain.text(told, dry_run=dry_run))
        return 0

    raise typer.Exit(work(settings, job, fetches=not dry_run, needs_cache=not dry_run))


def main() -> None:
    """The console script. Whatever goes wrong is one line on standard error and exit status 1."""
    if sys.platform == "win32":
        sys.exit("fwdproxy: runs on Linux and macOS; on Windows, run it in WSL")
    try:
        app()
    except FwdProxyError as error:
        sys.exit(f"fwdproxy: {error}")
    except OSError as error:
        sys.exit(f"fwdproxy: {_say(error)}")
    except Exception as error:
        if "FWDPROXY_TRACEBACK" in os.environ:
            raise
        sys.exit(
            f"fwdproxy: a fault in fwdproxy itself, {type(error).__name__}: {error}; "
            "FWDPROXY_TRACEBACK=1 in the environment shows where"
        )


def _say(error: OSError) -> str:
    """The system's own words, and the file that they are about."""
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename is not None else what
