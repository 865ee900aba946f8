"""The addon behind ``addons/cache.py``: mitmproxy options with the prefix ``fwd_``, parsed into our settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mitmproxy import ctx, exceptions, optmanager
from mitmproxy.addonmanager import Loader

from fwdproxy import config
from fwdproxy.config import Settings
from fwdproxy.errors import FwdProxyError
from fwdproxy.mitm.certs import trust_bundle
from fwdproxy.mitm.shell import BUFFERED, Shell, installed
from fwdproxy.policy.keying import Recipe

logger = logging.getLogger("fwdproxy.mitm")


class CacheOptions:
    """Declares the options and gives what they say to the shell."""

    def __init__(self) -> None:
        self._shell: Shell | None = None

    def load(self, loader: Loader) -> None:
        """Declare each setting that has a meaning under mitmproxy."""
        about = "A TOML file with settings; the other options win over it."
        loader.add_option(config.FILE_OPTION, str, "", about)
        for setting in config.SETTINGS:
            if setting.for_mitmproxy:
                typespec: Any
                default: object
                if setting.kind is bool:
                    typespec, default = bool, setting.default == "true"
                elif setting.kind is str:
                    typespec, default = str, setting.default
                else:
                    typespec, default = Sequence[str], []
                loader.add_option(setting.option, typespec, default, setting.about)

    def configure(self, updated: set[str]) -> None:
        """Parse what was set. Bad values are refused as mitmproxy refuses its own."""
        if self._shell is not None and not any(name.startswith("fwd_") for name in updated):
            return
        # Only what was set: mitmproxy's defaults would win over the file.
        given = {name: option for name, option in ctx.options.items() if option.value is not optmanager.unset}
        values = {name: option.current() for name, option in given.items() if name.startswith("fwd_")}
        try:
            settings = config.from_options(
                {name: None if value == "" else value for name, value in values.items()}, check_recipe=Recipe.build
            )
            shell = installed()
            shell.use(settings)
        except FwdProxyError as error:
            if self._shell is None:
                # While a script loads, mitmproxy would print an exception with its traceback; a logged error ends it.
                logger.error("%s", error)
                return
            raise exceptions.OptionsError(str(error)) from None
        self._shell = shell
        prepare_options(settings)

    def running(self) -> None:
        """Refuse options of ours that don't exist; mitmproxy itself would wait for them without a word."""
        known = {config.FILE_OPTION, *(setting.option for setting in config.SETTINGS)}
        for name in ctx.options.deferred:
            if name.startswith("fwd_") and name not in known:
                logger.error("there is no option %s; those of the cache are: %s", name, ", ".join(sorted(known)))


def prepare_options(settings: Settings) -> None:
    """Set what the exchange needs of mitmproxy: no early connections, bounded buffers, tunnels for bypassed hosts.

    What mitmproxy itself carries (gRPC) is to trust the same origins.
    """
    wanted: dict[str, object] = {"connection_strategy": "lazy"}
    if settings.origin.ca and not ctx.options.ssl_verify_upstream_trusted_ca:
        wanted["ssl_verify_upstream_trusted_ca"] = str(trust_bundle(settings.origin.ca, settings.data_dir))
    if not ctx.options.stream_large_bodies:
        wanted["stream_large_bodies"] = str(BUFFERED)
    tunnelled = [rf"^{pattern.regex}:\d+$" for pattern in settings.bypass]
    if missing := [regex for regex in tunnelled if regex not in ctx.options.ignore_hosts]:
        wanted["ignore_hosts"] = [*ctx.options.ignore_hosts, *missing]
    ctx.options.update(**{name: value for name, value in wanted.items() if getattr(ctx.options, name) != value})
