"""What of mitmproxy's user, beside fwdproxy, wants to see messages: scripts with hooks, and options."""

from __future__ import annotations

from typing import Any, Final

from mitmproxy import addonmanager, ctx

BODY_HOOKS: Final = ("request", "response")
BODY_OPTIONS: Final = (
    "anticache",
    "client_replay",
    "dumper_filter",
    "intercept",
    "map_local",
    "map_remote",
    "modify_body",
    "modify_headers",
    "save_stream_file",
    "server_replay",
    "stickyauth",
    "stickycookie",
)
"""Options of mitmproxy's that act on whole messages: a request that is streamed has gone before they see it."""


def want_bodies() -> bool:
    """Whether anything of the user's may read or change whole messages, so that small ones are kept together."""
    options = ctx.options
    if any(getattr(options, name, None) for name in BODY_OPTIONS):
        return True
    if getattr(options, "flow_detail", 1) > 2:
        return True
    return any(
        not _known(addon) and any(callable(getattr(addon, hook, None)) for hook in BODY_HOOKS)
        for addon in addonmanager.traverse(ctx.master.addons.chain)
    )


def _known(addon: Any) -> bool:
    module = getattr(addon, "__module__", None) or getattr(addon, "__name__", "")
    return str(module).startswith(("mitmproxy.", "fwdproxy."))
