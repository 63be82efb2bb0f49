"""``deluge cache verify``, ``prune``, ``delete`` and ``reject``: keeping a cache in order."""

from contextlib import closing
from typing import Annotated

import typer

from lm_deluge.cli.cache.options import (
    AsJson,
    Model,
    Namespace,
    NewerThan,
    OlderThan,
    RunName,
    StorePlace,
    Tag,
    make_filter,
)
from lm_deluge.cli.values import parse_duration, parse_size

__all__ = ["delete", "prune", "reject", "verify"]

_BATCH = 256


def verify(
    store: StorePlace,
    fix: Annotated[
        bool, typer.Option("--fix", help="Set entries aside whose answer is damaged; their bytes are kept.")
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="First make an SQLite file anew from all that can be read of it. The old one stays beside it.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a cache: the file itself, each answer, and each request.

    Exit codes: 0 all is well (or was set aside just now), 1 damage was found,
    2 not done.

    Examples:
      deluge cache verify my_cache.db
      deluge cache verify my_cache.db --fix
      deluge cache verify my_cache.db --rebuild
    """
    from lm_deluge.cache.housekeeping import verify as check
    from lm_deluge.cli.cache.printing import print_json
    from lm_deluge.cli.cache.reports import print_check
    from lm_deluge.cli.stores import kind_of, open_store, rebuild_file

    if rebuild:
        rebuild_file(store)
    with closing(open_store(store, writing=fix)) as opened:
        report = check(opened, fix=fix)
        if as_json:
            print_json(report)
        else:
            print_check(report, opened.location, fixing=fix, is_file=kind_of(store) == "sqlite")
    raise typer.Exit(0 if report.is_sound else 1)


def prune(
    store: StorePlace,
    older_than: OlderThan = None,
    unused_for: Annotated[
        float | None,
        typer.Option(
            help="Not served for this long, or stored that long ago and never served.",
            parser=parse_duration,
            metavar="AGE",
            rich_help_panel="Which entries",
            show_default=False,
        ),
    ] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Those whose ttl has passed.", rich_help_panel="Which entries")
    ] = False,
    namespace: Namespace = None,
    model: Model = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            help="Remove only as many of them as it takes to bring the cache down to this size (500MB, 2GB), those "
            "that were used longest ago first.",
            parser=parse_size,
            metavar="SIZE",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove entries that are old, unused or too many.

    An entry goes if it meets all the conditions that are given. The report
    says what it would cost to get the answers again.

    Examples:
      deluge cache prune my_cache.db --older-than 180d --model 'gpt-3.5*' --dry-run
      deluge cache prune my_cache.db --max-bytes 2GB
    """
    from lm_deluge.cache.housekeeping import prune as remove
    from lm_deluge.cli.cache.printing import print_json
    from lm_deluge.cli.cache.reports import print_pruned
    from lm_deluge.cli.stores import open_store
    from lm_deluge.errors import ConfigError

    if not expired and all(each is None for each in (older_than, unused_for, namespace, model, max_bytes)):
        raise ConfigError(
            "Nothing says which entries may go, so all of them would. Give at least one of --older-than, --unused-for, "
            "--expired, --namespace, --model and --max-bytes."
        )
    with closing(open_store(store, writing=not dry_run)) as opened:
        report = remove(
            opened,
            older_than=older_than,
            unused_for=unused_for,
            namespace=namespace,
            model=model,
            keep_bytes=max_bytes,
            expired=expired,
            dry_run=dry_run,
        )
    if as_json:
        print_json(report)
    else:
        print_pruned(report)


def delete(
    store: StorePlace,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="Keys, or their first few digits.", show_default=False),
    ] = None,
    namespace: Namespace = None,
    model: Model = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    run: RunName = None,
    tag: Tag = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete all that the filters select.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete entries by their keys, or, with --yes, all that filters select.

    To keep an answer for audit and not serve it any more, use reject.

    Examples:
      deluge cache delete my_cache.db 8f3a 91bc
      deluge cache delete my_cache.db --tag experiment --yes
    """
    from lm_deluge.cache.archive.filters import entries, scannable
    from lm_deluge.cache.housekeeping import find
    from lm_deluge.cli.cache.printing import entries_of, print_json, say
    from lm_deluge.cli.stores import open_store
    from lm_deluge.errors import ConfigError

    chosen = make_filter(
        namespace=namespace, model=model, older_than=older_than, newer_than=newer_than, run=run, tag=tag
    )
    filtered = chosen != make_filter()
    if keys and filtered:
        raise ConfigError("Give keys or filters, not both.")
    if not keys and not filtered:
        raise ConfigError("Give keys, or filters such as --model together with --yes.")
    with closing(open_store(store, writing=bool(keys) or yes)) as opened:
        found = [find(opened, key).key for key in keys or ()] or [stored.key for stored in entries(opened, chosen)]
        if filtered and found and not yes:
            raise ConfigError(f"{entries_of(len(found))} would be deleted. Add --yes to do it.")
        whole = scannable(opened)
        deleted = sum(whole.delete_many(found[at : at + _BATCH]) for at in range(0, len(found), _BATCH))
    if as_json:
        print_json({"deleted": deleted})
    else:
        say(f"{entries_of(deleted)} deleted." if found else "No entries match.")


def reject(
    store: StorePlace,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The entry's key, or its first few digits.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="Why, for the audit.", metavar="TEXT", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Take a bad answer out of service and keep it for audit.

    Its prompt is a miss from now on. The list command shows such entries
    with --set-aside.

    Example:
      deluge cache reject my_cache.db 8f3a --reason "wrong unit"
    """
    from lm_deluge.cache.housekeeping import find
    from lm_deluge.cli.cache.printing import print_json, say
    from lm_deluge.cli.stores import open_store
    from lm_deluge.errors import CacheError

    with closing(open_store(store, writing=True)) as opened:
        found = find(opened, key)
        if not opened.set_aside(found.key, found.value, f"rejected: {reason}"):
            raise CacheError(f"The entry {found.key.hex()[:16]}… was replaced or removed just now; look again.")
    if as_json:
        print_json({"key": found.key, "reason": reason})
    else:
        say(f"{found.key.hex()[:16]}… is out of service; its prompt is a miss from now on.")
