"""The tables of ``deluge cache stats`` and ``deluge cache drift``."""

from collections.abc import Mapping, Sequence

from lm_deluge.cache.admin.housekeeping import Drift, Group, Ledger, Stats
from lm_deluge.cache.runs import Run
from lm_deluge.cli.output import make_console, print_sentence
from lm_deluge.cli.table import Column, amounts, filled, numbers, print_table
from lm_deluge.cli.terminal import say, shown
from lm_deluge.events import RunReport
from lm_deluge.text import NOTHING, ago, counted, date, day, money, size
from lm_deluge.usage import Usage

__all__ = ["print_drift", "print_stats"]

_MOST_GROUPS = 20


def print_stats(stats: Stats, runs: Sequence[Run], location: str) -> None:
    """All of what was added up at a place: a sentence, groups of entries, and these runs."""
    print_sentence(_headline(stats, location))
    if len(stats.namespaces) > 1:
        _print_groups("cache key", stats.namespaces)
    if stats.models:
        _print_groups("model", stats.models)
    if stats.ledger is not None and stats.ledger.runs:
        _print_ledger(stats.ledger, runs, location)


def _headline(stats: Stats, location: str) -> str:
    found, place = stats.all, "on disk" if stats.on_disk else "in memory"
    quarantined = f"; {stats.quarantined:,} quarantined" if stats.quarantined else ""
    if not found.entries:
        return f"{location}: no entries{quarantined}."
    facts = f"{counted(found.entries, 'entry', 'entries')}, {size(stats.disk_bytes)} {place}{quarantined}"
    stored = "" if found.oldest is None else f" Stored from {date(found.oldest)} to {date(found.newest)} UTC."
    return f"{location}: {facts}.{stored}"


def _print_groups(what: str, all_groups: Sequence[Group]) -> None:
    groups = all_groups[:_MOST_GROUPS]
    columns = [
        Column(name=what, cells=[shown(group.name or NOTHING) for group in groups], share=1),
        numbers("entries", [group.entries for group in groups]),
        Column(name="size", cells=[size(group.bytes) for group in groups], right=True, rank=3),
        numbers("input", [group.usage.input_tokens for group in groups]),
        numbers("cache read", [group.usage.cache_read_tokens for group in groups], rank=1),
        numbers("cache write", [group.usage.cache_write_tokens for group in groups], rank=2),
        numbers("output", [group.usage.output_tokens for group in groups]),
        amounts("paid", [group.cost for group in groups]),
        numbers("unpriced", [group.unpriced for group in groups], rank=1),
        Column(name="newest, UTC", cells=[date(group.newest) for group in groups], rank=4),
    ]
    print_table(filled(columns))
    if len(all_groups) > _MOST_GROUPS:
        make_console().print(f"and {len(all_groups) - _MOST_GROUPS:,} more; --json has all of them.")


def _print_ledger(ledger: Ledger, runs: Sequence[Run], location: str) -> None:
    total = ledger.total
    without = [
        f"{ledger.unfinished:,} without an account: in progress, or killed" if ledger.unfinished else "",
        f"{ledger.imported:,} imported: what they paid is told where they ran" if ledger.imported else "",
    ]
    unfinished = f" ({'; '.join(filter(None, without))})" if any(without) else ""
    paid, avoided = money(total.cost), money(total.cost_avoided)
    saved = total.cost_without_prompt_caching - total.cost
    by_provider = f", {money(saved)} saved by the provider's prompt cache" if total.prompt_cache_hits else ""
    make_console().print(
        f"{counted(ledger.runs, 'run')}{unfinished}: {paid} paid, {avoided} avoided by hits{by_provider}."
    )
    _print_list("Tokens paid", _tokens(total.usage))
    _print_list("Tokens avoided", _tokens(total.usage_avoided))
    _print_list("Hits", _hit_places(total, location))
    _print_list(
        "Prompts read from a provider's cache", {f"at {name}": hits for name, hits in total.prompt_cache_hits.items()}
    )
    reports = [run.report or RunReport() for run in runs]
    columns = [
        Column(name="latest runs, UTC", cells=[date(run.started) for run in runs]),
        Column(name="name", cells=[_name(run) for run in runs], share=1),
        Column(name="tags", cells=[shown(", ".join(run.tags)) or NOTHING for run in runs], share=1, rank=1),
        numbers("prompts", [report.prompts for report in reports]),
        numbers("hits", [report.hits for report in reports]),
        numbers("calls", [report.calls for report in reports]),
        numbers("errors", [report.errors for report in reports]),
        amounts("paid", [report.cost for report in reports]),
        amounts("avoided", [report.cost_avoided for report in reports]),
    ]
    print_table(filled(columns))


def _name(run: Run) -> str:
    return " ".join(filter(None, [shown(run.name or ""), "(imported)" if run.imported else ""])) or NOTHING


def _hit_places(total: RunReport, location: str) -> dict[str, int]:
    here = {"in this cache" if store == location else f"in {store}": n for store, n in total.hits_by_store.items()}
    return dict(sorted(here.items(), key=lambda item: -item[1]))


def _print_list(what: str, numbers: Mapping[str, int]) -> None:
    told = ", ".join(f"{number:,} {shown(name)}" for name, number in numbers.items() if number)
    if told:
        print_sentence(f"{what}: {told}.")


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "cache write": usage.cache_write_tokens,
        "cache read": usage.cache_read_tokens,
        "output": usage.output_tokens,
    }


def print_drift(found: Sequence[Drift]) -> None:
    """A row for each model that answered under a name."""
    if not found:
        say("No name has been answered by more than one model.")
        return
    rows = [(each.asked if not number else "", one) for each in found for number, one in enumerate(each.resolved)]
    print_table(
        [
            Column(name="asked", cells=[shown(asked) for asked, _ in rows], share=1),
            Column(name="answered by", cells=[shown(one.model) for _, one in rows], share=1),
            numbers("entries", [one.entries for _, one in rows]),
            Column(name="from, UTC", cells=[day(one.first) for _, one in rows], rank=1),
            Column(name="to, UTC", cells=[day(one.last) for _, one in rows], rank=1),
        ]
    )
    for each in found:
        mixed = each.resolved[-2].last >= each.since
        print_sentence(
            f"{shown(each.asked)}: {shown(each.resolved[-1].model)} since {day(each.since)} ({ago(each.since)})"
            f"{', beside the one before it' if mixed else ''}."
        )
