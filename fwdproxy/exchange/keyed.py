"""What a request is looked up by: the key of RFC 9111 §2, by the user's recipes and by what origins say of queries."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

from fwdproxy.messages import CacheKey, Headers, RequestHead, TargetURI
from fwdproxy.policy import keys, search
from fwdproxy.policy.keying import Keying
from fwdproxy.store.base import Store


class Keys:
    """Makes keys for one vantage.

    ``variance``: heed No-Vary-Search. What an origin says there of a path is noted in ``store``, and the stored
    responses of that path lie under the canonical form of their URIs.
    """

    def __init__(self, store: Store, vantage: str, keying: Keying, *, variance: bool) -> None:
        self._store = store
        self._vantage = vantage
        self._keying = keying
        self._variance = variance

    async def of(self, head: RequestHead, content: str) -> CacheKey | None:
        """The key of a request, None when its method is not one that stored responses answer."""
        key = keys.cache_key(self._vantage, head, self._keying, content)
        return None if key is None else await self._canonical(key)

    async def of_target(self, target: TargetURI) -> CacheKey:
        """The key under which the stored responses of ``target`` lie."""
        return await self._canonical(keys.key_of(self._vantage, target, self._keying))

    def why(self, target: TargetURI) -> str:
        """What makes the key of ``target`` another than its URI, in plain words; empty: nothing does."""
        return self._keying.uri(target).why

    async def learned(self, key: CacheKey, target: TargetURI, response: Headers) -> CacheKey:
        """The key for a response to be stored, by the No-Vary-Search that it has itself; notes it for its path."""
        if not self._variance:
            return key
        own = self._keying.uri(target).uri
        name = _note(self._vantage, own)
        said = response.combined(b"no-vary-search")
        if said != await self._store.note(name):
            self._store.set_note(name, said)
        return replace(key, uri=search.canonical(own, search.parse(said)))

    async def _canonical(self, key: CacheKey) -> CacheKey:
        if not self._variance:
            return key
        said = await self._store.note(_note(key.vantage, key.uri))
        return key if said is None else replace(key, uri=search.canonical(key.uri, search.parse(said)))


def _note(vantage: str, uri: str) -> str:
    """The name of the note about a path. A digest: when a host is forgotten, its name is to be found nowhere."""
    path = f"{vantage} {uri.partition('?')[0]}".encode("utf-8", "surrogatepass")
    return f"search {blake2b(path, digest_size=16).hexdigest()}"
