"""Entries in any dictionary-like object: a ``dict``, a ``shelve``, a Modal ``Dict``, and their like."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from lm_deluge.cache.record import Entry

__all__ = ["MappingStore"]


class MappingStore:
    """An object with ``get(key)`` and ``put(key, value)``, or a plain mapping with ``get`` and item assignment.

    Keys are text that starts with the namespace; values are bytes.

    Raises:
        TypeError: the object can do neither.
    """

    blocks: ClassVar[bool] = True

    def __init__(self, mapping: Any, namespace: str) -> None:
        self._mapping = mapping
        self._namespace = namespace
        put = getattr(mapping, "put", None) or getattr(mapping, "__setitem__", None)
        if not callable(getattr(mapping, "get", None)) or not callable(put):
            raise TypeError(
                f"DistributedDictCache needs an object with get(key) and put(key, value), or a mapping; "
                f"{type(mapping).__name__} is neither."
            )
        self._put: Callable[[str, bytes], Any] = put

    @property
    def async_get(self) -> Callable[[str], Any] | None:
        """``get`` to be awaited, if the object has one: as a coroutine function, or as ``get.aio`` in Modal's manner."""
        return _awaitable(self._mapping.get)

    @property
    def async_put(self) -> Callable[[str, bytes], Any] | None:
        """``put`` to be awaited, if the object has one."""
        return _awaitable(self._put)

    def name(self, key: bytes) -> str:
        """The text under which an entry is kept."""
        return f"{self._namespace}:{key.hex()}"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._mapping.get(self.name(key)) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._put(self.name(entry.key), entry.value)

    def set_aside(self, key: bytes, reason: str) -> None:
        """Keep the bytes under a name of their own and put nothing usable in their place."""
        name = self.name(key)
        value = self._mapping.get(name)
        if value is not None:
            self._put(f"{name}:damaged", value)
            self._remove(name)

    def delete(self, key: bytes) -> bool:
        found = self._mapping.get(self.name(key)) is not None
        if found:
            self._remove(self.name(key))
        return found

    def _remove(self, name: str) -> None:
        if hasattr(self._mapping, "pop"):
            self._mapping.pop(name)
        elif hasattr(self._mapping, "__delitem__"):
            del self._mapping[name]
        else:
            self._put(name, b"")

    def close(self) -> None:
        pass

    @property
    def location(self) -> str:
        return f"{type(self._mapping).__name__}, namespace {self._namespace!r}"


def _awaitable(function: Callable[..., Any]) -> Callable[..., Any] | None:
    twin = getattr(function, "aio", None)
    if callable(twin):
        return twin  # type: ignore[no-any-return]
    return function if inspect.iscoroutinefunction(function) else None
