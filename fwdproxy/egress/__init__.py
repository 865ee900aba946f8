"""Which way a request leaves: pure values and decisions, no I/O.

Start at `hops`: a hop is the next machine on the way to an origin, and connections are kept apart by hop.
"""
