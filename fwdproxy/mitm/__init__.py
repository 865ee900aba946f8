"""The only importer of mitmproxy.

`shell` is the addon that puts the exchange in the place of mitmproxy's server connections; `layers` the HTTP layer
that it installs, `origin_side` what stands where a server connection stood, `client_http1` and `client_http2` the
client's side with mitmproxy's faults repaired, `convert` the translation of messages, `options` the ``fwd_`` options,
`master` the program of ``fwdproxy run``, `certs` the CA. Contact with mitmproxy's internals is in these files and has
contract tests in tests/mitm.
"""
