"""What would have to change for another outcome: what `fwdproxy explain` says after each reason."""

from __future__ import annotations

from typing import Final

from fwdproxy.policy.decisions import Reason

_AS_RULED: Final = "nothing, if it is what you want; else change or remove the rule in your configuration"
_METHOD: Final = (
    "the client would have to ask with GET, HEAD or QUERY; nothing makes the response to another method reusable, "
    "but for a POST that states a lifetime and names its own URI in Content-Location"
)
_LIFETIME: Final = "the origin would have to send a lifetime, such as Cache-Control: max-age=3600"

# By code, whether a response wasn't stored or what is stored wasn't used: what mends the one mends the other.
# The codes of outcomes that nobody wants changed aren't here.
_ADVICE: Final = {
    # Answered from the store, but not as the origin may want it.
    "heuristic": f"{_LIFETIME}, to decide itself for how long",
    "request-max-stale": f"for a fresh answer, {_LIFETIME}; or the client would have to leave max-stale out",
    "validated": "for an answer without asking, the origin would have to send a longer lifetime, and no no-cache",
    "stale-while-revalidate": "for a fresh answer, the origin would have to send a longer max-age or s-maxage",
    "stale-if-error": "the origin would have to be reachable and answer without an error",
    "grace": "the origin would have to be reachable and answer without an error; your setting cache.grace says for how "
    "long what is stored may stand in",
    # The origin was asked.
    "uri-miss": "nothing: once a response is stored, the next request for this URI can be answered from the cache",
    "vary-miss": "the client would have to send the same request fields as an earlier one; or the origin would have to "
    "name fewer fields in Vary, only those by which it chooses",
    "stale": "the origin would have to send a longer max-age or s-maxage, or stale-while-revalidate to have it "
    "validated in the background; you can set min_lifetime in a rule",
    "no-cache": "the origin would have to leave no-cache out and send a lifetime instead; must-revalidate is enough "
    "where only stale responses do harm",
    "request-no-cache": "the client would have to leave Cache-Control: no-cache and Pragma: no-cache out, which a "
    "browser's forced reload sends; you can set ignore_reload in a rule",
    "request-max-age": "the client would have to leave Cache-Control: max-age out, which a browser's reload sends, or "
    "allow a higher one; over HTTPS the origin can send immutable, and you can set ignore_reload in a rule",
    "request-min-fresh": "the client would have to leave Cache-Control: min-fresh out or ask for less; or the origin "
    "would have to send a longer lifetime",
    "heuristic-personal": f"{_LIFETIME}; or the client would have to send neither Cookie nor Authorization",
    "authorization": "the origin would have to send Cache-Control: public, s-maxage or must-revalidate to let it be "
    "shared; or the client no Authorization; you can set share_authorized in a rule for the host",
    "method": _METHOD,
    "precondition": "the client would have to leave If-Match and If-Unmodified-Since out; If-None-Match and "
    "If-Modified-Since are answered from the cache",
    "request-content": "the client would have to send GET without content; for a question that needs content there is "
    "QUERY",
    "only-if-cached": "the client would have to leave Cache-Control: only-if-cached out, or another request would have "
    "to bring the response into the cache before",
    # The response was not stored.
    "head": "the client would have to ask with GET: its response is stored and answers HEAD too",
    "post": "the origin would have to answer 200 with a lifetime, such as Cache-Control: max-age=3600, and with the "
    "target URI in Content-Location; it then answers later GETs, never a POST",
    "request-no-store": "the client would have to leave Cache-Control: no-store out",
    "interim": "the origin would have to send a final response; a 1xx comes before one",
    "partial": "the origin would have to send a strong ETag and, with the range, the complete length; a range is then "
    "stored as a part. Only a request without Range brings the whole",
    "status": "the origin would have to answer with another status: this one answers a single request",
    "no-store": "the origin would have to leave no-store out, and private too",
    "must-understand": "the origin would have to use a status of RFC 9110, or leave must-understand (and a no-store "
    "beside it) out",
    "private": "the origin would have to leave private out, if the response is the same for everyone",
    "connection-options": "the origin would have to take fields that must be kept, such as Cache-Control or Vary, out "
    "of its Connection field",
    "qualified": "the origin would have to take fields that must be kept, such as Content-Type or Vary, out of "
    'private="…" and no-cache="…"',
    "vary": "the origin would have to name in Vary the request fields by which it chooses, instead of *",
    "not-cacheable": f"{_LIFETIME}, or Cache-Control: public with an ETag or Last-Modified; for errors you can set "
    "negative_lifetime in a rule",
    "no-lifetime": f"{_LIFETIME}, or an ETag by which the response can be validated; where cookies or credentials "
    "take part, a Last-Modified is not enough",
    "expires-invalid": "the origin would have to send a valid date in Expires, or better Cache-Control: max-age",
    # The user's rules.
    "rule-bypass": "take bypass out of the rule in your configuration, or add a rule with bypass = false before it",
    "rule-min-lifetime": _AS_RULED,
    "rule-max-lifetime": "raise max_lifetime in the rule, or remove it: the origin allows more",
    "rule-ignore-reload": _AS_RULED,
    "rule-offline": "take offline out of your configuration; the origin is asked again then",
    "rule-negative": _AS_RULED,
    "rule-share-authorized": _AS_RULED,
    "rule-retention": "raise retention in your configuration, or remove it",
    # The exchange's own.
    "upgrade": "the client would have to leave Upgrade out",
    "long-query": "the client would have to send a shorter question, or the origin offer its answer under a URI",
    "no-store-configured": "run the proxy with a cache",
    "not-identified": "the origin would have to send the ETag of the stored response in its 304",
    "unreadable": "nothing, if it happens once; else look at the disk, and run fwdproxy cache verify",
}


def advice(reason: Reason) -> str:
    """What the origin, the client or the user would have to send or set to change what was decided for ``reason``.

    A clause without a full stop at its end; empty where what was decided is as good as it gets.
    """
    return _ADVICE.get(reason.code, "")
