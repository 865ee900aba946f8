"""Towards origins: a pooled HTTP/1.1 client, as strict as RFC 9112 asks.

Start at `client`. Below it, `pool` and `connect` (with `resolver` and `tls`) bring a `connection`, on which a `stream`
carries one request and its response. `serialize` and `http1` (with `llhttp`) are the bytes, `upload` and `inbox` the
bodies of both directions.
"""
