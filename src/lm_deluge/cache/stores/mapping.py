"""Entries in any dictionary-like object: a ``dict``, a ``shelve``, a Modal ``Dict``, and their like."""

import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from lm_deluge._locks import renewed
from lm_deluge._threads import in_thread, made_progress
from lm_deluge.cache.entry import Entry
from lm_deluge.errors import CacheError

__all__ = ["MappingStore"]

_NOTHING = b""  # stands where an entry was removed from an object that cannot remove


class MappingStore:
    """An object with ``get(key)`` and ``put(key, value)``, or a plain mapping with ``get`` and item assignment.

    Keys are text that starts with the namespace; values are bytes. Threads take turns, because such objects need not
    be made for several.

    Attributes:
        async_get: ``get`` to be awaited, if the object has one: a coroutine function, or ``get.aio`` as in Modal.
        async_put: the same for ``put``.
        can_block: whether both can be called without being awaited.

    Raises:
        TypeError: the object can do neither.
    """

    blocks: ClassVar[bool] = True
    patience: ClassVar[float] = 5.0

    def __init__(self, mapping: Any, namespace: str) -> None:
        get = getattr(mapping, "get", None)
        put = getattr(mapping, "put", None) or getattr(mapping, "__setitem__", None)
        if not callable(get) or not callable(put):
            raise TypeError(
                f"DistributedDictCache needs an object with get(key) and put(key, value), or a mapping; "
                f"{type(mapping).__name__} is neither."
            )
        self._mapping = mapping
        self._namespace = namespace
        self._get: Callable[[str], Any] = get
        self._put: Callable[[str, Any], Any] = put
        self._turn = renewed(threading.Lock())
        self._closed = False
        self.async_get: Callable[[str], Awaitable[Any]] | None = _awaitable(get)
        self.async_put: Callable[[str, Any], Awaitable[Any]] | None = _awaitable(put)
        self.can_block = not inspect.iscoroutinefunction(get) and not inspect.iscoroutinefunction(put)

    def name(self, key: bytes) -> str:
        """The text under which an entry is kept.

        Raises:
            CacheError: the store is closed.
        """
        if self._closed:
            raise CacheError(f"The cache in a {self.location} is closed. Make a new one to go on.")
        return f"{self._namespace}:{key.hex()}"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for key in keys:
            found.append(self._value(self.name(key)))
            made_progress()
        return found

    async def fetch(self, key: bytes) -> Any:
        """The value of one key, off the event loop."""
        if self.async_get is None:
            return await in_thread(lambda: self._value(self.name(key)))
        return _or_none(await self.async_get(self.name(key)))

    def put_many(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._assign(self.name(entry.key), entry.value)
            made_progress()

    async def store(self, entry: Entry) -> None:
        """Store one entry, off the event loop."""
        await self._assign_async(self.name(entry.key), entry.value)

    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        """Move the value to a name of its own. The reason is not kept."""
        name = self.name(key)
        found = self._value(name)
        if found is None or found != value:
            return False
        self._assign(_quarantine_name(name), value)
        self._remove(name)
        return True

    async def quarantine_async(self, key: bytes, value: object, reason: str) -> bool:
        """``quarantine`` off the event loop, for objects that offer nothing else to await."""
        name = self.name(key)
        found = await self.fetch(key)
        if found is None or found != value:
            return False
        await self._assign_async(_quarantine_name(name), value)
        await self._assign_async(name, _NOTHING)
        return True

    def delete(self, key: bytes) -> bool:
        name = self.name(key)
        found = self._value(name) is not None
        if found:
            self._remove(name)
        return found

    def close(self) -> None:
        """Stop using the object. It belongs to its owner, so it is not closed."""
        self._closed = True

    @property
    def location(self) -> str:
        return f"{type(self._mapping).__name__}, namespace {self._namespace!r}"

    def _value(self, name: str) -> Any:
        with self._turn:
            return _or_none(_blocking(self._get)(name))

    def _assign(self, name: str, value: Any) -> None:
        with self._turn:
            _blocking(self._put)(name, value)

    async def _assign_async(self, name: str, value: Any) -> None:
        if self.async_put is None:
            await in_thread(lambda: self._assign(name, value))
        else:
            await self.async_put(name, value)

    def _remove(self, name: str) -> None:
        if not hasattr(self._mapping, "__delitem__"):
            self._assign(name, _NOTHING)
            return
        with self._turn:
            try:
                del self._mapping[name]
            except KeyError:
                return  # it was removed meanwhile


def _or_none(value: Any) -> Any:
    return None if isinstance(value, bytes) and value == _NOTHING else value


def _quarantine_name(name: str) -> str:
    return f"{name}:damaged"


def _awaitable(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]] | None:
    twin: Callable[..., Awaitable[Any]] | None = getattr(function, "aio", None)
    if callable(twin):
        return twin
    return function if inspect.iscoroutinefunction(function) else None


def _blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):
        raise CacheError(
            f"{function.__qualname__} is a coroutine function, so this cache has no blocking get and put. "
            "Use await get_many([prompt]) and await store(prompt, response), as a client does by itself."
        )
    return function
