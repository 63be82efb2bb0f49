"""The transport that a client is given: an object, or the name of one."""

from collections.abc import Callable, Mapping

from lm_deluge._optional import require
from lm_deluge.errors import ConfigError
from lm_deluge.transport._aiohttp import AiohttpTransport
from lm_deluge.transport._asyncio import AsyncioTransport
from lm_deluge.transport._protocol import Transport

__all__ = ["VARIABLE", "as_transport"]

VARIABLE = "LM_DELUGE_TRANSPORT"
_DEFAULT = "asyncio"
_NAMED: dict[str, Callable[[], Transport]] = {"aiohttp": AiohttpTransport, "asyncio": AsyncioTransport}
_EXTRAS = {"aiohttp": "aiohttp"}


def as_transport(given: Transport | str | None, environ: Mapping[str, str]) -> Transport:
    """The transport to use.

    Args:
        given: a transport; ``"asyncio"`` or ``"aiohttp"``; or None for the one that ``LM_DELUGE_TRANSPORT`` names, by
            default ``"asyncio"``.
        environ: the environment.

    Raises:
        ConfigError: there is no transport of this name.
        ImportError: the package that it needs is missing.
        TypeError: the object is no transport.
    """
    if given is None:
        name = environ.get(VARIABLE, "").strip() or _DEFAULT
        return _make(name, f"{VARIABLE}={name!r}", others="")
    if isinstance(given, str):
        return _make(given, f"transport={given!r}", others=", or an object with the methods of a transport")
    if not callable(getattr(given, "send", None)):
        raise TypeError(
            f"transport= was given a {type(given).__name__}, which has no method send. Give an object with the methods "
            f"of lm_deluge.transport.Transport, or one of the names {_names()}."
        )
    return given


def _make(name: str, said: str, *, others: str) -> Transport:
    make = _NAMED.get(name)
    if make is None:
        raise ConfigError(f"{said} is not known; use {_names()}{others}.")
    if name in _EXTRAS:
        require(name, extra=_EXTRAS[name], purpose=said)
    return make()


def _names() -> str:
    return " or ".join(repr(name) for name in sorted(_NAMED))
