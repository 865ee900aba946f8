"""Commands and the events that answer them: the lines of JSON on a control socket, and the calls of `Admin`.

A command is answered by any number of events, and then one `Done` or `Failure`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

Fields = tuple[tuple[str, str], ...]
"""Field lines; each character stands for one byte (ISO 8859-1)."""

LONGEST_COMMAND: Final = 1 << 20
"""Bytes of the line that a command takes."""

LONGEST_EVENT: Final = 4 << 20
"""Bytes of the line that an event takes: the longest heads, escaped."""


IN_MEMORY: Final = "memory"
"""The folder of what lies in memory only."""


class _Message(Struct, frozen=True, kw_only=True, tag=str.lower, tag_field="is"):
    """One line."""


class Purge(_Message, frozen=True, kw_only=True):
    """Outdate what is stored: the values of `store.purging.PurgeRule`; for kind "url" the URL as a client has it.

    Answered by `Purged`, and a `Remark` where something may be left that people mean too.
    """

    kind: str
    value: str = ""
    origin: str = ""


class Stats(_Message, frozen=True, kw_only=True):
    """How full the cache is. Answered by `Statistics`."""


class Ls(_Message, frozen=True, kw_only=True):
    """What is stored, ``limit`` responses at most. Answered by `Entry` after `Entry`."""

    prefix: str = ""
    host: str = ""
    limit: int = 1000


class Show(_Message, frozen=True, kw_only=True):
    """All that is stored for one URL. Answered by `Entry` after `Entry`, with their fields."""

    url: str


class Verify(_Message, frozen=True, kw_only=True):
    """Read every stored response and remove what is broken. Answered by `Progress` and `Checked`."""


class Warm(_Message, frozen=True, kw_only=True):
    """Fetch all of ``urls``, a few at a time. Answered by one `Fetched` for each, in the order they finish."""

    urls: tuple[str, ...]
    fields: Fields = ()


class Fetch(_Message, frozen=True, kw_only=True):
    """Fetch one URL through the cache. Answered by `Chunk` after `Chunk` and a `Fetched`."""

    url: str
    fields: Fields = ()


class Explain(_Message, frozen=True, kw_only=True):
    """Say why the answer to a GET is what it is. Answered by an `Explanation`. ``dry_run``: ask no origin."""

    url: str
    fields: Fields = ()
    dry_run: bool = False


Command = Purge | Stats | Ls | Show | Verify | Warm | Fetch | Explain


class Hello(_Message, frozen=True, kw_only=True):
    """The first line of a running proxy, before it has read anything."""

    version: str
    pid: int


class Purged(_Message, frozen=True, kw_only=True):
    """What `Purge` outdated: "url", "prefix", …, and its value as the cache has it."""

    kind: str
    value: str


class Progress(_Message, frozen=True, kw_only=True):
    """``done`` of about ``total`` things are done (None: nobody knows how many there are)."""

    done: int
    total: int | None = None


class Remark(_Message, frozen=True, kw_only=True):
    """What people should know beside what was done; ``text`` is one line."""

    text: str


class Statistics(_Message, frozen=True, kw_only=True):
    """``objects`` stored responses take ``bytes`` of the ``limit`` bytes allowed in ``folder`` (or `IN_MEMORY`).

    ``memory``: some of them, or all, lie in this process's memory.
    """

    objects: int
    bytes: int
    limit: int
    folder: str
    memory: bool = False


class Entry(_Message, frozen=True, kw_only=True):
    """One stored response. Times are Unix seconds, ages and lifetimes whole seconds.

    ``length``: bytes stored. ``part``: first byte, byte after the last and complete length where that is only a part.
    ``lifetime_code`` is the word for where the lifetime comes from. ``outdated``: purged, or over its retention.
    ``selected_by``: the request fields that it was chosen by (Vary) with their values, None where one was absent.
    ``fields``: those of its head, for `Show`.
    """

    url: str
    kind: str
    vantage: str
    content: str
    ident: str
    status: int
    length: int
    part: tuple[int, int, int] | None = None
    type: str = ""
    received: float = 0.0
    used: float = 0.0
    age: int = 0
    lifetime: int = 0
    lifetime_code: str = ""
    outdated: bool = False
    selected_by: tuple[tuple[str, str | None], ...] = ()
    fields: Fields = ()

    @property
    def fresh_for(self) -> int:
        """Seconds for which it is still fresh; negative: since when it is stale."""
        return self.lifetime - self.age


class Checked(_Message, frozen=True, kw_only=True):
    """What `Verify` found: responses and bytes that were read, and the URLs whose stored responses were removed."""

    checked: int
    bytes: int
    removed: tuple[str, ...] = ()


class Fetched(_Message, frozen=True, kw_only=True):
    """What became of one fetched URL.

    ``how``: "hit" (it was there), "stored", "passed" (not to be stored; ``why``), or "failed" (``why``).
    """

    url: str
    how: str
    status: int = 0
    bytes: int = 0
    why: str = ""


class Chunk(_Message, frozen=True, kw_only=True):
    """Some bytes of a fetched body."""

    data: bytes


class Why(Struct, frozen=True, kw_only=True):
    """A reason of policy: a short word, where the rule stands, in plain words, and what would change the outcome."""

    code: str
    section: str
    text: str
    advice: str = ""


class Explanation(_Message, frozen=True, kw_only=True):
    """Why the answer to a GET of ``url`` is what it is.

    ``key`` is the URI that it is stored and found under, empty where the cache is passed by; ``keyed_by`` says what of
    the user's made that another than ``url``. ``rule``: the effects of the user's rules, in words. ``stored``: what was
    there before.

    The rest is of the answer, and missing in a dry run: its ``source`` ("cache"; "validated", so the origin confirmed
    what was stored; "shared", so from a download that another request began; "origin"; "proxy", a page of its own, for
    the ``fault`` that is a short word), ``why`` it came from there, ``kept`` (and ``kept_why``) whether the origin's
    answer was stored, and how long what was served or stored is fresh.
    """

    url: str
    key: str = ""
    keyed_by: str = ""
    rule: tuple[str, ...] = ()
    stored: tuple[Entry, ...] = ()
    status: int = 0
    cache_status: str = ""
    source: str = ""
    fault: str = ""
    kept: bool = False
    why: Why | None = None
    kept_why: Why | None = None
    lifetime: int | None = None
    lifetime_why: Why | None = None
    fields: Fields = ()


class Done(_Message, frozen=True, kw_only=True):
    """All of the command is done."""


class Failure(_Message, frozen=True, kw_only=True):
    """The command ended here; ``text`` is one line for people."""

    text: str


Event = (
    Hello | Purged | Remark | Progress | Statistics | Entry | Checked | Fetched | Chunk | Explanation | Done | Failure
)
