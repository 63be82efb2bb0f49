"""What is trusted: the system's certificates, or those that the environment names, and those that the user adds."""

import asyncio
import os
import ssl
from pathlib import Path

from lm_deluge.errors import ConfigError
from lm_deluge.transport._off_loop import off_loop

__all__ = ["LoopContext", "Trust"]

# Where systems keep their authorities, for a Python that was built elsewhere and does not know.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS
)


class Trust:
    """What one transport trusts.

    Args:
        ca_file: PEM file with certificates to trust besides the system's.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """

    def __init__(self, ca_file: str | Path | None) -> None:
        self._added = None if ca_file is None else _read_certificates(Path(ca_file))
        self._made: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """A context that verifies, made once for all loops. That reads files, so it is called in a thread.

        Raises:
            ConfigError: ``SSL_CERT_FILE`` names a file that cannot be used.
        """
        if self._made is None:
            self._made = _make_context(self._added)
        return self._made


class LoopContext:
    """The context that the connections of one event loop verify with, made off the loop.

    Args:
        loop: the event loop.
        trust: makes the context.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, trust: Trust) -> None:
        self._loop = loop
        self._trust = trust
        self._context: asyncio.Future[ssl.SSLContext] | None = None

    async def get(self) -> ssl.SSLContext:
        """The context.

        Raises:
            ConfigError: as :meth:`Trust.context`. The next call tries again.
            OSError: as :func:`off_loop`. The next call tries again.
        """
        if self._context is None:
            self._context = off_loop(self._loop, self._trust.context)
        try:
            return await asyncio.shield(self._context)
        except (ConfigError, OSError):
            self._context = None  # it may be possible by the next request
            raise


def _read_certificates(path: Path) -> str:
    """The certificates of a PEM file.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"ca_file {str(path)!r} cannot be read: {error.strerror}.") from error
    found = [begin + part.partition(end)[0] + end + "\n" for part in text.split(begin)[1:] if end in part]
    if not found:
        raise ConfigError(f"ca_file {str(path)!r} holds no certificate in PEM form.")
    return "".join(found)


def _make_context(added: str | None) -> ssl.SSLContext:
    named, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        # Where a file or folder is named, it stands in for the system's: with neither, those are loaded.
        context = ssl.create_default_context(cafile=named or None, capath=folder or None)
    except OSError as error:  # SSLError is one
        raise ConfigError(
            "SSL_CERT_FILE names a file that cannot be read or holds no certificate. Correct it, or unset it."
        ) from error
    if not (named or folder) and not _knows_authorities(context):
        for bundle in _BUNDLES:
            if Path(bundle).is_file():
                context.load_verify_locations(cafile=bundle)
                break
    if added is not None:
        try:
            context.load_verify_locations(cadata=added)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError("A certificate in ca_file cannot be read. Write it in PEM form.") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _knows_authorities(context: ssl.SSLContext) -> bool:
    if context.cert_store_stats()["x509_ca"]:
        return True
    # A folder is read when needed, and so not counted.
    return any(Path(ssl.get_default_verify_paths().openssl_capath).glob("*.0"))
