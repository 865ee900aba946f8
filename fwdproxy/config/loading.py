"""From file, flags and options to `Settings`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from fwdproxy.config.complaints import Layer, explain
from fwdproxy.config.rules import check_recipes, check_rules
from fwdproxy.config.schema import SETTINGS, Settings
from fwdproxy.errors import ConfigError
from fwdproxy.values import open_file, parse_path

FILE_OPTION: Final = "fwd_config"
"""mitmproxy's option for the TOML file."""


CheckRecipe = Callable[[str, str], object]
"""Raises ConfigError for a pattern and a key that make no recipe: `policy.keying.Recipe.build`, which knows."""


def load(
    file: Path | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    listens: bool = True,
    check_recipe: CheckRecipe | None = None,
) -> Settings:
    """Defaults, then the TOML ``file``, then ``flags`` by setting key (``cache.size``; None and () are not given).

    Raises ConfigError, also when the proxy would listen beyond loopback without `allow_client`. ``listens``: whether
    the settings are for a proxy, and not for a command that looks after one.
    """
    layers = [] if file is None else [_file_layer(file, "--config")]
    if flags:
        layers.append(Layer(_nested(flags), Path.cwd(), lambda key: "--" + re.sub(r"[._]", "-", key)))
    settings = _combine(layers, check_recipe)
    if listens and not settings.listen.loopback and not settings.allow_client:
        raise ConfigError(
            f"listen = {settings.listen} lets other machines connect, and none is allowed; say which with "
            "--allow-client, such as --allow-client 192.168.0.0/16, or listen on 127.0.0.1"
        )
    return settings


def from_options(options: Mapping[str, object], *, check_recipe: CheckRecipe | None = None) -> Settings:
    """Settings from mitmproxy's options: those named ``fwd_…``; None and () are not given. Raises ConfigError.

    ``fwd_config`` names a TOML file, over which the other options win.
    """
    keys = {setting.option: setting.key for setting in SETTINGS if setting.for_mitmproxy}
    flat = {keys[name]: value for name, value in options.items() if name in keys}
    layers = [Layer(_nested(flat), Path.cwd(), lambda key: "fwd_" + key.replace(".", "_"))]
    file = options.get(FILE_OPTION)
    if file is not None:
        try:
            path = parse_path(file, Path, Path.cwd())
        except ValueError as error:
            raise ConfigError(f"{FILE_OPTION} = {file!r} {error}") from None
        layers.insert(0, _file_layer(path, FILE_OPTION))
    return _combine(layers, check_recipe)


def _file_layer(file: Path, named_by: str) -> Layer:
    return Layer(_read(file, named_by), file.absolute().parent, lambda key: f"{file}: {key}")


_LARGEST_FILE: Final = 1024 * 1024


def _read(file: Path, named_by: str) -> dict[str, Any]:
    try:
        with open_file(file) as source:
            text = source.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise ConfigError(f"{file}: is larger than 1 MiB; a configuration is a small TOML file")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror}); name a readable file with {named_by}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text; a configuration is a TOML file") from None
    except ValueError as error:  # also a number with thousands of digits
        raise ConfigError(f"{file}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: nests brackets too deeply; no setting needs more than a list of texts") from None


def _nested(flat: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if value is None or value in ((), []):
            continue
        table, _, name = key.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[name] = value
    return nested


def _combine(layers: Sequence[Layer], check_recipe: CheckRecipe | None) -> Settings:
    settings = Settings()
    for layer in layers:
        above = _convert(layer)
        check_rules(above, layer)
        if check_recipe is not None:
            check_recipes(above, layer, check_recipe)
        settings = _overlay(settings, above, layer.raw)
    if not any("certs" in layer.raw for layer in layers):
        settings = msgspec.structs.replace(settings, certs=settings.data_dir / "certs")
    return settings


def _overlay[S: Struct](below: S, above: S, given: Mapping[str, Any]) -> S:
    """``below`` with those fields of ``above`` that were given."""
    changes = {
        name: _overlay(getattr(below, name), getattr(above, name), raw)
        if isinstance(getattr(above, name), Struct)
        else getattr(above, name)
        for name, raw in given.items()
    }
    return msgspec.structs.replace(below, **changes)


def _convert(layer: Layer) -> Settings:
    def parse(kind: type, raw: object) -> object:
        return parse_path(raw, kind, layer.base) if issubclass(kind, Path) else kind.parse(raw)  # type: ignore[attr-defined]

    try:
        return msgspec.convert(layer.raw, Settings, dec_hook=parse)
    except msgspec.ValidationError as error:
        raise ConfigError(explain(str(error), layer)) from None
