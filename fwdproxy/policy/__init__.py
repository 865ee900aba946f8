"""The decisions of a shared cache (RFC 9111): pure functions, each with its reason; time is an argument.

Start with `reuse.decide` (may what is stored answer this request?) and `storing.decide` (may this response be
stored?); `decisions` holds the values they return. `freshness`, `selection`, `validation`, `stale` and `heuristics`
are the rules they use; `keys` and `invalidation` say which stored responses a request or a change concerns, and
`answering` writes the head that a client gets.
"""
