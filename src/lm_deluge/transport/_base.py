"""The settings of a transport and what follows from them: proxies, trust, limits, one pool for each event loop."""

import asyncio
import dataclasses
import functools
import os
from pathlib import Path
from typing import Generic

from lm_deluge.errors import ConfigError
from lm_deluge.transport._per_loop import PerLoop, T
from lm_deluge.transport._proxies import Proxies, Proxy, checked_proxy
from lm_deluge.transport._tls import Trust

__all__ = ["IDLE", "LONGEST", "BaseTransport", "Settings", "checked_limit"]

LONGEST = 3600.0
"""Seconds that an exchange may last at most."""

IDLE = 60.0
"""Seconds after which a connection without use is closed."""


@dataclasses.dataclass(frozen=True, repr=False)
class Settings:
    """What a transport was told. :class:`AsyncioTransport` documents it."""

    proxy: Proxy | None
    trust_env: bool
    trust: Trust
    connect_timeout: float
    max_body_bytes: int

    def __repr__(self) -> str:
        proxy = "" if self.proxy is None else f"proxy={self.proxy.origin.host!r}, "
        return f"{proxy}max_body_bytes={self.max_body_bytes}"

    @functools.cached_property
    def proxies(self) -> Proxies:
        """The proxies, as the environment says at the first request."""
        return Proxies(self.proxy, os.environ if self.trust_env else {})


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
        if max_body_bytes < 1:
            raise ConfigError(f"max_body_bytes is {max_body_bytes}; it has to be at least 1.")
        self._settings = Settings(
            proxy=None if proxy is None else checked_proxy(proxy),
            trust_env=trust_env,
            trust=Trust(ca_file),
            connect_timeout=checked_limit(connect_timeout),
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
