"""The syntax of header fields: bytes in, frozen values out; no decisions.

`connection` tells hop-by-hop fields, `cache_control` directives, `dates` and `etags` the two validators' grammar,
`lists` what several of them share, and `cache_status` writes the field that says why an answer came as it did.
"""
