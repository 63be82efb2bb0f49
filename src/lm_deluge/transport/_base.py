"""The settings of a transport and what follows from them: proxies, trust, limits, one pool for each event loop."""

import asyncio
import functools
from pathlib import Path
from typing import Generic
from urllib.parse import urlsplit

from lm_deluge.errors import ConfigError
from lm_deluge.transport._per_loop import PerLoop, T
from lm_deluge.transport._proxies import Proxies, checked_proxy, proxies
from lm_deluge.transport._tls import Trust

__all__ = ["IDLE", "LONGEST", "BaseTransport", "Settings", "checked_limit"]

LONGEST = 3600.0
"""Seconds that an exchange may last at most."""

IDLE = 60.0
"""Seconds after which a connection without use is closed."""


class Settings:
    """What a transport was told. :class:`AsyncioTransport` documents it."""

    def __init__(
        self,
        *,
        proxy: str | None,
        trust_env: bool,
        ca_file: str | Path | None,
        connect_timeout: float,
        max_body_bytes: int,
    ) -> None:
        if max_body_bytes < 1:
            raise ConfigError(f"max_body_bytes is {max_body_bytes}; it has to be at least 1.")
        self.proxy = proxy if proxy is None else checked_proxy(proxy)
        self.trust_env = trust_env
        self.trust = Trust(ca_file)
        self.connect_timeout = checked_limit(connect_timeout)
        self.max_body_bytes = max_body_bytes

    def __repr__(self) -> str:
        proxy = "" if self.proxy is None else f"proxy={urlsplit(self.proxy).hostname!r}, "
        return f"{proxy}max_body_bytes={self.max_body_bytes}"

    @functools.cached_property
    def proxies(self) -> Proxies:
        """The proxies, as the environment says at the first request."""
        return proxies(self.proxy, trust_env=self.trust_env)


class BaseTransport(Generic[T]):
    """A transport with these settings and with one pool for each event loop."""

    def __init__(
        self,
        *,
        proxy: str | None = None,
        trust_env: bool = True,
        ca_file: str | Path | None = None,
        connect_timeout: float = 10.0,
        max_body_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._require()
        self._settings = Settings(
            proxy=proxy,
            trust_env=trust_env,
            ca_file=ca_file,
            connect_timeout=connect_timeout,
            max_body_bytes=max_body_bytes,
        )
        # Nothing below refers to this object, so a transport that is dropped closes its connections at once.
        self._pools: PerLoop[T] = PerLoop(functools.partial(self._make_pool, self._settings))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings!r})"

    async def aclose(self) -> None:
        """Close the connections. Requests in flight fail; a later request opens new ones."""
        self._pools.close()
        await asyncio.sleep(0)  # closing takes one pass of the loop

    @staticmethod
    def _require() -> None:
        """Import what a request will need, so that a missing package is told at once."""

    @staticmethod
    def _make_pool(settings: Settings, loop: asyncio.AbstractEventLoop) -> T:
        raise NotImplementedError


def checked_limit(seconds: float) -> float:
    """A time limit, of an hour at most.

    Raises:
        ConfigError: it is not above 0.
    """
    if not seconds > 0:
        raise ConfigError(f"A time limit of {seconds} s has no meaning; it has to be above 0.")
    return min(seconds, LONGEST)
