"""What a started proxy says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fwdproxy.values import Endpoint, Size


@dataclass(frozen=True, slots=True)
class Banner:
    """Where the proxy listens (port 0 resolved), where its cache lies and how large it may grow, and its CA.

    ``cache_dir`` None: the cache is in memory.

    ``fingerprint`` is the SHA-256 of the CA's certificate in DER form, 32 bytes.
    """

    listen: tuple[Endpoint, ...]
    cache_dir: Path | None
    cache_size: int
    ca: Path
    fingerprint: bytes

    def text(self, version: str, loop: str) -> str:
        """The lines to print; no line feed at the end."""
        return "\n".join(
            (
                f"fwdproxy {version} listens on {', '.join(map(str, self.listen))} ({loop})",
                f"  cache    {self.cache_dir or 'in memory'}, up to {Size(self.cache_size)}",
                f"  CA       {self.ca}",
                f"  SHA-256  {self.fingerprint.hex(':').upper()}",
            )
        )
