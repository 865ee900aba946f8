"""The configuration file of the programs that tests share when they need more than the defaults."""

from __future__ import annotations

RANGE_LIMIT = 1000
"""Bytes of the largest object that is fetched whole for a request for a part of it."""

HEAD_TIMEOUT = 1.5
"""Seconds for an origin to begin its answer."""

CONFIG = rf"""
[cache]
grace = "1h"
collapse_timeout = "1s"
range_limit = {RANGE_LIMIT}
targets = ["Fwd-Cache-Control", "CDN-Cache-Control"]
no_vary_search = true
ignore_tracking = true
ignore_params = ["ruled"]

[origin]
head_timeout = "{HEAD_TIMEOUT}s"

[[recipes]]
pattern = 'http://(?:localhost|127\.0\.0\.1|nowhere\.invalid):(\d+)/(\d+/mirrored)(?:\?.*)?'
key = 'http://mirrors.internal/\1/\2'

[[rules]]
path = ["*/passed"]
bypass = true

[[rules]]
path = ["*/longer"]
min_lifetime = "1h"

[[rules]]
path = ["*/longer"]
min_lifetime = "1s"
max_lifetime = "2h"

[[rules]]
path = ["*/shorter"]
max_lifetime = "1m"

[[rules]]
path = ["*/typed"]
type = ["image/*"]
min_lifetime = "1h"

[[rules]]
path = ["*/pinned"]
ignore_reload = true

[[rules]]
path = ["*?ruled=offline"]
offline = true

[[rules]]
path = ["*/errors"]
negative_lifetime = "1h"

[[rules]]
path = ["*?ruled=retention"]
retention = "1s"

[[rules]]
path = ["*/remembered"]
memory = true

[[rules]]
host = ["localhost"]
path = ["*/members"]
share_authorized = true
"""
"""Tests choose a rule by the end of their path, or by the parameter ``ruled``, which is no part of keys."""
