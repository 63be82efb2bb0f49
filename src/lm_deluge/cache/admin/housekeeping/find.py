"""One entry by its short id or the beginning of its key, as people copy it from a table."""

from collections.abc import Iterable
from typing import TypeVar

from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.entry import Stored, short_id
from lm_deluge.cache.stores import Store
from lm_deluge.canonical import KEY_SIZES
from lm_deluge.errors import ConfigError

__all__ = ["find", "key_filter", "only_one"]

T = TypeVar("T")

_NAMED = 4


def find(store: Store, prefix: str) -> Stored:
    """The entry whose key begins so, or that has this short id.

    Args:
        store: the store.
        prefix: hexadecimal digits, or a short id; a whole key is found without looking through the store.

    Raises:
        ConfigError: there is none, there are several, or these are no hexadecimal digits.
        CacheError: the store cannot be read, or cannot say what it holds.
    """
    wanted = key_filter(prefix)
    if "-" not in wanted.key and len(wanted.key) // 2 in KEY_SIZES and len(wanted.key) % 2 == 0:
        (whole,) = scannable(store).read([bytes.fromhex(wanted.key)])
        if whole is not None:
            return whole
    return only_one(((stored.key, stored) for stored in entries(store, wanted)), wanted.key, "entry")


def key_filter(prefix: str) -> Filter:
    """The filter for keys that begin so, or that have this short id.

    Raises:
        ConfigError: it is empty, or these are no hexadecimal digits.
    """
    wanted = Filter(key=prefix.strip().removesuffix("…"))
    if not wanted.key:
        raise ConfigError("A key is needed: 96 hexadecimal digits, or the first few of them.")
    return wanted


def only_one(found: Iterable[tuple[bytes, T]], prefix: str, missing: str) -> T:
    """What was found, if all of it has one key: the last one. Reading stops when there are too many keys.

    Args:
        found: keys, and what is under them.
        prefix: with which the keys begin.
        missing: what there is none of, for the message: ``"entry"``, for example.

    Raises:
        ConfigError: there is none, or there are several keys.
    """
    last: dict[bytes, T] = {}
    for key, value in found:
        last[key] = value
        if len(last) > _NAMED:
            break
    if not last:
        raise ConfigError(f"No {missing} has a key that begins with {prefix}.")
    if len(last) > 1:
        names = ", ".join(f"{short_id(key, 16)}…" for key in list(last)[:_NAMED])
        more = " and more" if len(last) > _NAMED else ""
        raise ConfigError(f"Several keys begin with {prefix}: {names}{more}. Give more digits.")
    return next(iter(last.values()))
