"""One entry by the beginning of its key, as people copy it from a table."""

from itertools import islice

from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.entry import Stored
from lm_deluge.cache.stores import Store
from lm_deluge.errors import ConfigError

__all__ = ["find"]

_NAMED = 4
_KEY_DIGITS = 64


def find(store: Store, prefix: str) -> Stored:
    """The entry whose key begins so.

    Args:
        store: the store.
        prefix: hexadecimal digits; a whole key is found without looking through the store.

    Raises:
        ConfigError: there is none, there are several, or these are no hexadecimal digits.
        CacheError: the store cannot be read, or cannot say what it holds.
    """
    wanted = Filter(key=prefix.strip().removesuffix("…"))
    if not wanted.key:
        raise ConfigError("A key is needed: 64 hexadecimal digits, or the first few of them.")
    if len(wanted.key) == _KEY_DIGITS:
        found = [stored for stored in scannable(store).read([bytes.fromhex(wanted.key)]) if stored is not None]
    else:
        found = list(islice(entries(store, wanted), _NAMED + 1))
    if not found:
        raise ConfigError(f"No entry has a key that begins with {wanted.key}.")
    if len(found) > 1:
        names = ", ".join(f"{stored.key.hex()[:16]}…" for stored in found[:_NAMED])
        more = " and more" if len(found) > _NAMED else ""
        raise ConfigError(f"Several keys begin with {wanted.key}: {names}{more}. Give more digits.")
    return found[0]
