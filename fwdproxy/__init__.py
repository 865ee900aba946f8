"""fwdproxy: a forward caching proxy. One disk cache, shared by every client, for HTTP and HTTPS.

One request goes through the package from top to bottom; imports point the same way:

- `cli`, `commands`: the command line. `config`, `banner`: the one typed configuration, what a started proxy says of
  itself.
- `serve`: the running program `fwdproxy run`: event loop, signals, exit status.
- `mitm`: the only importer of mitmproxy: its modes, CA, TLS interception and hooks, turned into calls of the exchange.
- `control`: what people ask of a cache (purge, look, verify, warm, explain), through a running proxy or without one.
- `exchange`: one request, asked and answered: it asks policy, then store or origin, and says why it did so.
- `store`: responses on disk, and the messages that are just being received. `origin`: pooled connections to origins.
- `policy`: the rules of RFC 9111, pure: no clock, no I/O; each decision carries its reason. `anonymize`: the request
  head that an origin may see. `egress`: the way that a request leaves by.
- `messages`: the frozen values that all of them speak of. `fields`: the syntax of header fields. `errors`.

Start reading at `exchange/caching.py`, which has the whole story of one request, then `policy/reuse.py` and
`policy/storing.py` for the decisions; `store/base.py` and `mitm/__init__.py` say what the two ends look like.
"""

__version__ = "0.1.0"
