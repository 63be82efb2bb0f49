"""The address of a Redis server, and its password: in the URL, or better in the environment or a file.

Command lines are readable for every user of a machine and end in the shell's history, so a password has other ways::

    LM_DELUGE_REDIS_PASSWORD, LM_DELUGE_REDIS_PASSWORD_FILE, REDIS_PASSWORD, REDIS_PASSWORD_FILE

The first of them that is set counts, where the URL has no password. Those with ``_FILE`` name a file that holds it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lm_deluge.errors import ConfigError

__all__ = ["Address"]

_SCHEMES = ("redis", "rediss", "unix")
_VALKEY = {"valkey": "redis", "valkeys": "rediss"}
_FORM = "redis://[user:password@]host[:port][/database], rediss://... or unix://[user:password@]/path[?db=database]"
_VARIABLES = ("LM_DELUGE_REDIS_PASSWORD", "REDIS_PASSWORD")
_PASSWORD_BYTES = 64 * 1024
_SHORTEST_SECRET = 4  # of fewer letters, masking would spoil the message and hide nothing


class Address:
    """Where a server is, and its credentials.

    Args:
        url: as ``RedisStore`` takes it.
        environ: where a password is looked for that the URL does not have.

    Attributes:
        url: as it was given; ``redis`` for ``valkey``, and ``rediss`` for ``valkeys``.
        scheme: ``"redis"``, ``"rediss"`` or ``"unix"``.
        location: the URL without user, password and options.
        credentials: what the environment adds, for redis-py.
        secrets: what no message may repeat.

    Raises:
        ConfigError: the URL has another form, or the file of the password cannot be read.
    """

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ) -> None:
        try:
            scheme = urlsplit(url).scheme
            url = _VALKEY.get(scheme, scheme) + url[len(scheme) :]  # the server is asked in the same way
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            own = parts.password or (parse_qs(parts.query).get("password") or [""])[0]
        except (AttributeError, TypeError, ValueError):
            raise self.wrong_form() from None
        if parts.scheme not in _SCHEMES or parts.fragment or not (host if parts.scheme != "unix" else parts.path):
            raise self.wrong_form()
        self.url = url
        self.scheme = parts.scheme
        if parts.scheme == "unix":
            self.location = f"unix://{parts.path}"
        else:
            host = f"[{host}]" if ":" in host else host
            self.location = f"{parts.scheme}://{host}:{port or 6379}{parts.path}"
        added = None if own else _password(environ)
        self.credentials: Mapping[str, Any] = {} if added is None else {"password": added}
        secrets = {own, unquote(own), added or ""}
        self.secrets = tuple(sorted((one for one in secrets if len(one) >= _SHORTEST_SECRET), key=len, reverse=True))

    def as_given(self) -> "Address":
        """The same address without what the environment adds."""
        return Address(self.url, {})

    @staticmethod
    def wrong_form() -> ConfigError:
        """The error for a URL that cannot be read."""
        return ConfigError(
            f"The URL of the Redis server cannot be read. It has the form {_FORM}. Characters such as '@', '#' and "
            "'/' in a password are written as %40, %23 and %2F."
        )


def _password(environ: Mapping[str, str]) -> str | None:
    for name in _VARIABLES:
        if environ.get(name):
            return environ[name]
        if path := environ.get(f"{name}_FILE"):
            return _in_file(Path(path).expanduser(), f"{name}_FILE")
    return None


def _in_file(path: Path, variable: str) -> str:
    try:
        with path.open("rb") as file:
            held = file.read(_PASSWORD_BYTES + 1)
        password = held.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigError(f"The file that {variable} names cannot be read: {why}.") from None
    password = password.removesuffix("\n").removesuffix("\r")
    if not password or len(held) > _PASSWORD_BYTES:
        raise ConfigError(f"The file that {variable} names holds no password: it is empty or very large.")
    return password
