"""The CA of a folder, as people need to know it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fwdproxy.errors import StartupError

CA_CERTIFICATE = "mitmproxy-ca-cert.pem"
"""mitmproxy's name for the certificate without its key: the file to hand out."""


def ready_folder(folder: Path) -> None:
    """Make the folder of the CA, readable by its owner only. Raises StartupError when it can't be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        if any(folder.glob(CA_CERTIFICATE)):
            return  # a CA that is only read may lie in a folder that can't be written
        raise StartupError(
            f"the folder {folder} for the CA can't be written ({error.strerror}); name another with --certs"
        ) from None


def trust_bundle(extra: Sequence[Path], folder: Path) -> Path:
    """One file in ``folder`` with the usual authorities and those of the ``extra`` files, as mitmproxy wants them."""
    bundle = folder / "origin-ca.pem"
    texts = [source.read_text("utf-8") for source in (Path(certifi.where()), *extra)]
    bundle.write_text("\n".join(texts), "utf-8")
    return bundle


def authority(folder: Path) -> tuple[Path, bytes]:
    """The path of the CA's certificate in ``folder`` and its SHA-256 fingerprint (32 bytes)."""
    path = folder / CA_CERTIFICATE
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return path, hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
