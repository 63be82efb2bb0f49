"""``deluge cache verify``, ``prune`` and ``delete``: keeping a cache in order."""

from contextlib import closing
from typing import Annotated, Any

import typer

from lm_deluge.cli.cache import options
from lm_deluge.cli.options import AsJson, argument, flag, option
from lm_deluge.cli.values import parse_duration, parse_size

__all__ = ["delete", "prune", "verify"]


def verify(
    store: options.StorePlace,
    fix: Annotated[
        bool,
        flag(
            "--fix", "Quarantine entries whose answer is damaged, and put right what is said of those that are whole."
        ),
    ] = False,
    rebuild: Annotated[
        bool,
        flag(
            "--rebuild",
            "First rebuild an SQLite file from all that can be read of it, even if it is cut short. The old one "
            "stays beside it.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a cache: the file itself, each answer, and each request.

    Exit codes: 0 all is well or was put right just now, 1 damage was found or
    entries were lost, 2 not done.

    Examples:
      deluge cache verify my_cache.db
      deluge cache verify my_cache.db --fix
      deluge cache verify my_cache.db --rebuild
    """
    from lm_deluge.cache.admin.housekeeping import verify as check
    from lm_deluge.cache.stores import RebuildableStore
    from lm_deluge.cli.cache.reports import print_check, rebuilt
    from lm_deluge.cli.output import plain, print_json
    from lm_deluge.cli.stores import open_store, rebuild_file
    from lm_deluge.cli.terminal import say

    made = rebuild_file(store) if rebuild else None
    if made is not None:
        say(rebuilt(made, store))
    with closing(open_store(store, writing=fix)) as opened:
        report = check(opened, fix=fix)
        if as_json:
            print_json({**plain(report), "rebuilt": made})
        else:
            print_check(report, opened.location, fixing=fix, can_rebuild=isinstance(opened, RebuildableStore))
    raise typer.Exit(0 if report.is_sound and not (made and made.lost) else 1)


def prune(
    store: options.StorePlace,
    older_than: options.OlderThan = None,
    unused_for: Annotated[
        float | None,
        option(
            "AGE",
            "Not served for this long, or stored that long ago and never served.",
            panel=options.WHICH,
            parser=parse_duration,
        ),
    ] = None,
    expired: Annotated[bool, flag("--expired", "Those whose ttl has passed.", panel=options.WHICH)] = False,
    cache_key: options.Namespace = None,
    model: options.Model = None,
    max_bytes: Annotated[
        int | None,
        option(
            "SIZE",
            "Remove only as many of them as it takes to bring the cache down to this size (500MB, 2GB), those "
            "that were used longest ago first.",
            parser=parse_size,
        ),
    ] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Remove nothing; say what would go.")] = False,
    yes: options.Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove entries that are old, unused or too many.

    An entry goes if it meets all the conditions that are given. What would
    go, and what it would cost to get the answers again, is told beforehand.

    Examples:
      deluge cache prune my_cache.db --older-than 180d --dry-run
      deluge cache prune my_cache.db --max-bytes 2GB --yes
    """
    from lm_deluge.cache.admin.housekeeping import prune as remove
    from lm_deluge.cli.cache.reports import pruned
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.stores import open_store
    from lm_deluge.cli.terminal import ask, say
    from lm_deluge.errors import ConfigError

    if not expired and all(each is None for each in (older_than, unused_for, cache_key, model, max_bytes)):
        raise ConfigError(
            "Nothing says which entries may go, so all of them would. Give at least one of --older-than, --unused-for, "
            "--expired, --cache-key, --model and --max-bytes."
        )
    conditions: dict[str, Any] = {
        "older_than": older_than,
        "unused_for": unused_for,
        "namespace": cache_key,
        "model": model,
        "keep_bytes": max_bytes,
        "expired": expired,
    }
    is_dry = dry_run or not yes
    with closing(open_store(store, writing=not is_dry)) as opened:
        report = remove(opened, **conditions, dry_run=is_dry)
    if is_dry and not dry_run:
        if report.entries:
            ask(pruned(report), yes=False)
        with closing(open_store(store, writing=True)) as opened:
            report = remove(opened, **conditions)
    if as_json:
        print_json(report)
    else:
        say(pruned(report))


def delete(
    store: options.StorePlace,
    keys: Annotated[list[str] | None, argument("KEY", "Keys, or at least their first four digits.")] = None,
    quarantined: Annotated[
        bool, flag("--quarantined", "Of those that are kept but not served: damaged or rejected ones.")
    ] = False,
    cache_key: options.Namespace = None,
    model: options.Model = None,
    older_than: options.OlderThan = None,
    newer_than: options.NewerThan = None,
    run: options.RunName = None,
    tag: options.Tag = None,
    yes: options.Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete entries by their keys, or all that filters select.

    With --quarantined and nothing else, all that was quarantined is deleted. To
    keep an answer for audit and not serve it any more, use reject.

    Examples:
      deluge cache delete my_cache.db 8f3a 91bc
      deluge cache delete my_cache.db --tag experiment --yes
      deluge cache delete my_cache.db --quarantined --older-than 90d
    """
    given = locals()
    from lm_deluge.cache.admin.filters import Filter
    from lm_deluge.cli.cache.deletion import delete_entries
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.terminal import say
    from lm_deluge.errors import ConfigError
    from lm_deluge.text import counted

    chosen = options.make_filter(given)
    filtered = chosen != Filter()
    if keys and filtered:
        raise ConfigError("Give keys or filters, not both.")
    if not (keys or filtered or quarantined):
        raise ConfigError("Give keys, or filters such as --model.")
    deleted = delete_entries(
        store, [options.changeable(key) for key in keys or ()], chosen, quarantined=quarantined, yes=yes
    )
    if as_json:
        print_json({"deleted": deleted or 0})
    elif deleted is None:
        say("No entries match." if filtered or not quarantined else "No entries are quarantined.")
    else:
        say(f"{counted(deleted, 'entry', 'entries')} deleted.")
