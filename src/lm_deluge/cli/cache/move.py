"""``deluge cache export``, ``import`` and ``rekey``: moving what is in a cache."""

from contextlib import closing
from typing import Annotated, Literal

import typer

from lm_deluge.cli.cache import options
from lm_deluge.cli.options import AsJson, argument, flag, option

__all__ = ["export", "import_file", "rekey"]

DryRun = Annotated[bool, flag("--dry-run", "Change nothing; say what would happen.")]


def export(
    store: options.StorePlace,
    file: Annotated[str, argument("FILE", "JSON lines; compressed where the name ends in .gz; - for standard output.")],
    cache_key: options.Namespace = None,
    model: options.Model = None,
    older_than: options.OlderThan = None,
    newer_than: options.NewerThan = None,
    run: options.RunName = None,
    tag: options.Tag = None,
    as_json: AsJson = False,
) -> None:
    """Write entries to a file of JSON lines that people can read.

    Each line has a checksum, and what requests share is written once. The
    file holds prompts and answers, so it is readable by its owner only.

    Examples:
      deluge cache export my_cache.db answers.jsonl.gz
      deluge cache export my_cache.db - --tag paper | gzip > paper.jsonl.gz
    """
    given = locals()
    from lm_deluge.cache.admin.archive import export as write
    from lm_deluge.cli.cache.destination import destination, exported
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.stores import open_store
    from lm_deluge.cli.terminal import say
    from lm_deluge.errors import ConfigError

    if file == "-" and as_json:
        raise ConfigError("--json and the entries would both go to standard output. Name a file.")
    chosen = options.make_filter(given)
    with closing(open_store(store)) as opened, destination(file) as target:
        report = write(opened, target, chosen)
    if as_json:
        print_json(report)
    else:
        say(exported(report, file))


def import_file(
    store: options.StorePlace,
    file: Annotated[
        str,
        argument("FILE", "What export wrote, - for standard input; another cache; or a cache file of PyPI lm-deluge."),
    ],
    on_conflict: Annotated[
        Literal["keep", "replace", "fail"],
        option(None, "Where another answer is stored under the same key: keep it, replace it, or stop there."),
    ] = "keep",
    cache_key: Annotated[
        str | None, option("NAME", "Store all entries under this cache_key.", show_default="their own")
    ] = None,
    create: Annotated[bool, flag("--create", "Make the SQLite file if it is not there.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put entries from a file, or from another cache, into a cache.

    Nothing in the file is believed: checksums are checked, and each key is
    made again from its request. What does not fit is left out and named. Doing
    it again, after an interruption for example, does no harm.

    Exit codes: 0 done, 1 stopped early or lines were damaged, 2 not done.

    Examples:
      deluge cache import my_cache.db answers.jsonl.gz --dry-run
      deluge cache import team.db my_cache.db --on-conflict keep
      deluge cache export a.db - | deluge cache import b.db - --create
    """
    from lm_deluge.cli.cache.incoming import import_into
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.terminal import say

    report, whole = import_into(
        store, file, on_conflict=on_conflict, namespace=cache_key, create=create, dry_run=dry_run
    )
    if as_json:
        print_json(report)
    else:
        say(str(report))
    raise typer.Exit(0 if whole else 1)


def rekey(
    store: options.StorePlace,
    from_key: Annotated[
        str | None, option("NAME", "Only the entries of this cache_key.", "--from", show_default="all")
    ] = None,
    to_key: Annotated[
        str | None, option("NAME", "Move them to this cache_key; needs --from.", "--to", show_default="their own")
    ] = None,
    dry_run: DryRun = False,
    yes: options.Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give each entry the key that its stored request has today.

    After an upgrade that changes how keys are made, this keeps old answers
    in service. Each answer is under one of its keys at any moment.

    Examples:
      deluge cache rekey my_cache.db --dry-run
      deluge cache rekey my_cache.db --from draft --to final
    """
    from lm_deluge.cache.admin.archive import rekey as give_new_keys
    from lm_deluge.cli.output import print_json
    from lm_deluge.cli.stores import open_store
    from lm_deluge.cli.terminal import ask, say
    from lm_deluge.errors import ConfigError

    if to_key is not None and from_key is None:
        raise ConfigError("--to moves the entries of one cache_key to another: name the first with --from.")
    if to_key is not None and not (dry_run or yes):
        with closing(open_store(store)) as opened:
            planned = give_new_keys(opened, dry_run=True, namespace_from=from_key, namespace_to=to_key)
        if planned.moved:
            ask(f"{planned}.", yes=False)
    with closing(open_store(store, writing=not dry_run)) as opened:
        report = give_new_keys(opened, dry_run=dry_run, namespace_from=from_key, namespace_to=to_key)
    if as_json:
        print_json(report)
    else:
        say(str(report))
