"""``deluge cache reject`` and ``restore``: taking an answer out of service, and putting it back."""

from contextlib import closing
from typing import Annotated

from lm_deluge.cli.cache import options
from lm_deluge.cli.options import AsJson, option

__all__ = ["reject", "restore"]


def reject(
    store: options.StorePlace,
    key: options.KeyToChange,
    reason: Annotated[str, option("TEXT", "Why, for the audit.")],
    as_json: AsJson = False,
) -> None:
    """Take a bad answer out of service and keep it for audit.

    It is not served any more. The list command shows such entries
    with --quarantined, and restore puts one back.

    Example:
      deluge cache reject my_cache.db 8f3a --reason "wrong unit"
    """
    from lm_deluge.cache.admin.housekeeping import find
    from lm_deluge.cache.entry import short_id
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.stores import open_store
    from lm_deluge.cli.terminal import say
    from lm_deluge.errors import CacheError

    why = f"rejected: {reason.strip()}" if reason.strip() else "rejected"
    with closing(open_store(store, writing=True)) as opened:
        found = find(opened, options.changeable(key))
        if not opened.quarantine(found.key, found.value, why):
            raise CacheError(f"The entry {short_id(found.key)} was replaced or removed just now; look again.")
    if as_json:
        print_json({"key": found.key, "reason": reason})
    else:
        say(f"{short_id(found.key)} is out of service, and not served any more.")


def restore(store: options.StorePlace, key: options.KeyToChange, as_json: AsJson = False) -> None:
    """Put an answer that was quarantined back into service.

    Where several answers of one key were quarantined, it is the latest that
    can be read.

    Example:
      deluge cache restore my_cache.db 8f3a
    """
    from lm_deluge.cache.admin.filters import scannable
    from lm_deluge.cache.admin.housekeeping import restore as put_back
    from lm_deluge.cache.entry import short_id
    from lm_deluge.cli.cache.quarantine import find_quarantined
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.stores import open_store
    from lm_deluge.cli.terminal import say
    from lm_deluge.errors import CacheError

    with closing(open_store(store, writing=True)) as opened:
        found = find_quarantined(opened, options.changeable(key)).entry.key
        name = short_id(found)
        if not put_back(opened, found):
            if scannable(opened).read([found]) != [None]:
                raise CacheError(f"Another answer is in service under {name}. Delete or reject that one first.")
            raise CacheError(f"No quarantined answer under {name} can be read any more, so there is no way back.")
    if as_json:
        print_json({"key": found})
    else:
        say(f"{name} is in service again.")
