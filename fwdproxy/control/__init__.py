"""What people ask of a cache: purge, look, verify, warm, explain, on a running proxy and on a stopped one.

`messages`: the commands and what is told in answer, as values. `admin`: does them on a store and, where a proxy runs,
its exchange; `trying`: a dry run by other settings than the proxy's. `server` and `client`: the same over a socket of
the running proxy; `sockets`: where these lie. `chosen`: from settings to the parts of policy that the user chose.
"""
