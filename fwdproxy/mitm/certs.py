"""The CA of a folder, as people need to know it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from fwdproxy.errors import StartupError
from fwdproxy.values import open_file

CA = "mitmproxy-ca.pem"
"""mitmproxy's name for the key with its certificate."""

CA_CERTIFICATE = "mitmproxy-ca-cert.pem"
"""mitmproxy's name for the certificate without its key: the file to hand out."""


def ready_folder(folder: Path) -> None:
    """Make the folder of the CA, readable by its owner only, and check the CA that it holds, if any.

    Raises StartupError when either can't be used; mitmproxy itself would say so in many lines.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        if not any(folder.glob(CA_CERTIFICATE)):  # a CA that is only read may lie in a folder that can't be written
            raise StartupError(
                f"the folder {folder} for the CA can't be written ({error.strerror}); name another with --certs"
            ) from None
    _check(folder)


def _check(folder: Path) -> None:
    """Refuse a CA that would fail later; complete one that its owner brought without the file to hand out."""
    key, public = folder / CA, folder / CA_CERTIFICATE
    try:
        certificate = _usable_certificate(key)
    except FileNotFoundError:
        return  # mitmproxy makes one
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise StartupError(
            f"the CA in {key} can't be used: {why}; restore that file, delete it to get a new CA (which clients "
            "then have to trust), or name another folder with --certs"
        ) from None
    try:
        if not public.exists():
            public.write_bytes(certificate.public_bytes(Encoding.PEM))
        handed_out = _first_certificate(_content(public))
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise StartupError(f"{public} can't be used: {why}; delete it, and it is made anew from {key}") from None
    if handed_out != certificate:
        raise StartupError(f"{public} is not the certificate in {key}; delete it, and it is made anew from there")


def _usable_certificate(file: Path) -> x509.Certificate:
    """The certificate of a CA whose key lies beside it. Raises OSError, and ValueError with what is wrong."""
    content = _content(file)
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise ValueError("its key is encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it holds no readable private key in PEM form") from None
    certificate = _first_certificate(content)
    if certificate.public_key() != key.public_key():
        raise ValueError("its key is not that of its certificate")
    end = certificate.not_valid_after_utc
    if end < dt.datetime.now(dt.UTC):
        raise ValueError(f"its certificate expired on {end:%Y-%m-%d}")
    return certificate


def _content(file: Path) -> bytes:
    with open_file(file) as source:
        return source.read()


def _first_certificate(content: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(content)[0]  # all are loaded, as mitmproxy does
    except ValueError:
        raise ValueError("it holds no readable certificate in PEM form") from None


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
