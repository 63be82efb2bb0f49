"""``deluge cache stats``, ``list``, ``show`` and ``drift``: what is in a cache. Nothing here changes one."""

from contextlib import closing
from typing import Annotated

from lm_deluge.cli.cache import options
from lm_deluge.cli.options import AsJson, argument, flag, option

__all__ = ["drift", "list_entries", "show", "stats"]


def stats(
    store: options.StorePlace,
    runs: Annotated[int, option("N", "How many runs to show; 0 for all.", min=0)] = 5,
    cache_key: options.Namespace = None,
    model: options.Model = None,
    older_than: options.OlderThan = None,
    newer_than: options.NewerThan = None,
    run: options.RunName = None,
    tag: options.Tag = None,
    as_json: AsJson = False,
) -> None:
    """Show what a cache holds and cost, and what runs paid and avoided.

    With --json, all runs are told.

    Examples:
      deluge cache stats my_cache.db
      deluge cache stats my_cache.db --tag nightly --json
    """
    given = locals()
    from lm_deluge.cache.admin.filters import chosen_runs
    from lm_deluge.cache.admin.housekeeping import stats as add_up
    from lm_deluge.cli.cache.overview import print_stats
    from lm_deluge.cli.output import plain, print_json
    from lm_deluge.cli.stores import open_store

    chosen = options.make_filter(given)
    with closing(open_store(store)) as opened:
        found = add_up(opened, chosen)
        all_runs = chosen_runs(opened, chosen)
        if as_json:
            print_json({**plain(found), "runs": all_runs})
        else:
            print_stats(found, all_runs[: runs or None], opened.location)


def list_entries(
    store: options.StorePlace,
    limit: Annotated[int, option("N", "How many to show; 0 for all.", min=0)] = 20,
    quarantined: Annotated[
        bool, flag("--quarantined", "Those that are kept but not served: damaged or rejected ones.")
    ] = False,
    key: Annotated[str, option("DIGITS", "Whose key begins so.", panel=options.WHICH)] = "",
    cache_key: options.Namespace = None,
    model: options.Model = None,
    older_than: options.OlderThan = None,
    newer_than: options.NewerThan = None,
    run: options.RunName = None,
    tag: options.Tag = None,
    as_json: AsJson = False,
) -> None:
    """List entries, the newest first; those that were quarantined, the oldest.

    With --json, each line is an object with the facts, the prompt's last
    message and the answer's text.

    Examples:
      deluge cache list my_cache.db --model 'gpt-4.1*' --newer-than 7d
      deluge cache list my_cache.db --limit 0 --json | jq -r .completion
    """
    given = locals()
    from lm_deluge.cli.cache.entries import print_entries
    from lm_deluge.cli.stores import open_store

    chosen = options.make_filter(given)
    with closing(open_store(store)) as opened:
        print_entries(opened, chosen, quarantined=quarantined, limit=limit or None, as_json=as_json)


def show(
    store: options.StorePlace,
    key: Annotated[str, argument("KEY", "The entry's key, or its first few digits.")],
    quarantined: Annotated[bool, flag("--quarantined", "The key's latest quarantined answer.")] = False,
    full: Annotated[bool, flag("--full", "Do not shorten long texts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one entry: what was asked, what was answered, and what it cost.

    An entry that was quarantined is found as well, unless another one has its
    place; then --quarantined shows it.

    Examples:
      deluge cache show my_cache.db 8f3a
      deluge cache show my_cache.db 8f3a --json | jq .response
    """
    from lm_deluge.cli.cache.entry import print_entry
    from lm_deluge.cli.stores import open_store

    with closing(open_store(store)) as opened:
        print_entry(opened, key, quarantined=quarantined, full=full, as_json=as_json)


def drift(
    store: options.StorePlace, cache_key: options.Namespace = None, model: options.Model = None, as_json: AsJson = False
) -> None:
    """Show names of models that have come to stand for another model.

    A provider moves a name such as gpt-4.1-mini to another version when it
    sees fit. Answers from before and after are then both in the cache.

    Example:
      deluge cache drift my_cache.db
    """
    given = locals()
    from lm_deluge.cache.admin.housekeeping import drift as find_drift
    from lm_deluge.cli.cache.overview import print_drift
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.stores import open_store

    with closing(open_store(store)) as opened:
        found = find_drift(opened, options.make_filter(given))
        if as_json:
            for each in found:
                print_json(each)
        else:
            print_drift(found)
