"""JSON-like data that cannot change: what a prompt holds must not move under its cache key."""

from typing import Any, NoReturn

from lm_deluge.canonical import plain

__all__ = ["FrozenDict", "FrozenList", "freeze", "thaw"]


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise TypeError("Prompts cannot be changed. Copy the value first, for example with copy.deepcopy().")


class _Frozen:
    __slots__ = ()

    def __deepcopy__(self, memo: object) -> Any:
        return thaw(self)

    def __reduce__(self) -> Any:
        return freeze, (thaw(self),)


class FrozenDict(_Frozen, dict[str, Any]):
    """A ``dict`` whose mutators raise ``TypeError``. ``copy.deepcopy`` gives an ordinary dict."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __copy__(self) -> dict[str, Any]:
        return dict(self)


class FrozenList(_Frozen, list[Any]):
    """A ``list`` whose mutators raise ``TypeError``. ``copy.deepcopy`` gives an ordinary list."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __copy__(self) -> list[Any]:
        return list(self)


def freeze(value: object) -> Any:
    """A frozen copy of JSON-like data, with string keys.

    Raises:
        PromptError: something in it has no faithful JSON form (NaN, bytes, a set, ...).
    """
    return _freeze(plain(value))


def _freeze(value: object) -> Any:
    if isinstance(value, dict):
        return FrozenDict({key: _freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return FrozenList([_freeze(item) for item in value])
    return value


def thaw(value: object) -> Any:
    """An ordinary, mutable copy of frozen data."""
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(item) for item in value]
    return value
