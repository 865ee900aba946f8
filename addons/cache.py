"""fwdproxy's cache for mitmproxy: ``mitmdump -s addons/cache.py``. Its options begin with ``fwd_``."""

from fwdproxy.mitm.options import CacheOptions

addons = [CacheOptions()]
