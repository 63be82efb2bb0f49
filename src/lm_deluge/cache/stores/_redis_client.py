"""Reaching a Redis server: opening a client, and saying what its errors mean. No message holds a credential."""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from lm_deluge._optional import require
from lm_deluge.errors import CacheError, CacheFileError, ConfigError

__all__ = ["connect", "location_of", "reported"]

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 10.0
_SCHEMES = ("redis", "rediss", "unix")
_FORM = "redis://[user:password@]host[:port][/database], rediss://... or unix://[user:password@]/path[?db=database]"


def connect(url: str) -> Any:
    """A client with a pool of connections, none of them opened yet.

    Raises:
        ImportError: ``redis`` is missing.
        ConfigError: the URL has another form, or an option in it is not known.
    """
    redis = require("redis", extra="redis", purpose="RedisCache")
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # Once more, at once, and only where the connection broke: a server that was restarted is there again, while one
    # that does not answer has been waited for already.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    try:
        client = redis.Redis.from_url(
            url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_ANSWER_SECONDS, retry=retry
        )
        client.connection_pool.make_connection()  # opens nothing, but looks at the options
    except (TypeError, ValueError):
        raise _wrong_form() from None  # the error could quote the password
    return client


def location_of(url: str) -> str:
    """A URL without user, password and options.

    Raises:
        ConfigError: the URL has another form.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except (AttributeError, TypeError, ValueError):
        raise _wrong_form() from None
    if parts.scheme not in _SCHEMES or parts.fragment or not (host if parts.scheme != "unix" else parts.path):
        raise _wrong_form()
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{port or 6379}{parts.path}"


def _wrong_form() -> ConfigError:
    return ConfigError(
        f"The URL of the Redis server cannot be read. It has the form {_FORM}. Characters such as '@', '#' and '/' in "
        "a password are written as %40, %23 and %2F."
    )


@contextlib.contextmanager
def reported(location: str) -> Iterator[None]:
    """Turn the client's errors into ours: ``CacheFileError`` where nothing else would fare better."""
    import redis

    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise CacheFileError(
            f"The Redis server {location} is full. Raise its maxmemory, set a maxmemory-policy that evicts, such as "
            "allkeys-lru, or give entries an end with ttl=."
        ) from error
    except (
        redis.exceptions.AuthenticationError,
        redis.exceptions.AuthorizationError,
        redis.exceptions.NoPermissionError,
    ) as error:
        raise CacheFileError(
            f"The Redis server {location} refuses us: {_said(error)}. Check user and password in the URL, and what "
            "that user may do."
        ) from error
    except redis.exceptions.ReadOnlyError as error:
        raise CacheFileError(
            f"The Redis server {location} is a replica that cannot be written. Give the URL of the primary."
        ) from error
    except redis.TimeoutError as error:
        raise CacheFileError(
            f"The Redis server {location} does not answer: {_said(error)}. Check that it is not overloaded and that "
            "no firewall is in between."
        ) from error
    except redis.ConnectionError as error:
        raise CacheFileError(
            f"The Redis server {location} cannot be reached: {_said(error)}. Check that it runs and that the URL is "
            "right."
        ) from error
    except redis.RedisError as error:
        raise CacheError(f"The Redis server {location} answered: {_said(error)}.") from error


def _said(error: Exception) -> str:
    # A failed pipeline quotes the command, and with it somebody's prompt.
    return str(error).rpartition("caused error: ")[2].rstrip(".")
