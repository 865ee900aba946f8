"""The one typed configuration. A TOML file, command-line flags and mitmproxy options are all parsed into it once.

Each setting has one key, from which its other spellings follow: ``cache.size`` in the file is ``--cache-size`` on the
command line and ``fwd_cache_size`` among mitmproxy's options. What comes later wins: default, file, flag; a list given
later takes the place of the earlier one. Relative paths in a file start at its folder, others at the current one.

Every fault raises ConfigError with one line that names place, value and remedy.

- `schema`: the settings, their types and defaults. `loading`: from the sources to `Settings`.
- `rules`: what is checked of ``[[rules]]`` and ``[[recipes]]``. `complaints`: the words for what is wrong.
"""

from fwdproxy.config.loading import FILE_OPTION, from_options, load
from fwdproxy.config.rules import warnings
from fwdproxy.config.schema import (
    SETTINGS,
    CacheTable,
    OriginTable,
    RecipeTable,
    RuleTable,
    Setting,
    Settings,
    default_data_dir,
)

__all__ = [
    "FILE_OPTION",
    "SETTINGS",
    "CacheTable",
    "OriginTable",
    "RecipeTable",
    "RuleTable",
    "Setting",
    "Settings",
    "default_data_dir",
    "from_options",
    "load",
    "warnings",
]
