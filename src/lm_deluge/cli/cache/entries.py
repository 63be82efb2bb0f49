"""The rows of ``deluge cache list``: entries in service, and those that were quarantined."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Facts, Stored
from lm_deluge.cache.record import StoredRequest, unpack_request
from lm_deluge.cache.stores import ScanStore, Store
from lm_deluge.cli.cache.quarantine import choose
from lm_deluge.cli.output import print_json
from lm_deluge.cli.prompts import last_text
from lm_deluge.cli.table import Column, print_table
from lm_deluge.cli.terminal import say, shown
from lm_deluge.errors import DamagedEntryError
from lm_deluge.response import APIResponse
from lm_deluge.text import NOTHING, date, day, money

__all__ = ["facts_of", "print_entries", "print_quarantined"]

_KEY_DIGITS = 8
_SNIPPET = 200
_NAME_WIDTH = 24  # of a model


class _Row(NamedTuple):
    """An entry, and what can be read of its texts; ``instead`` stands for an answer without any."""

    stored: Stored
    prompt: str | None
    completion: str | None
    instead: str
    sample: int
    problem: str | None


def print_entries(store: Store, filter: Filter, *, limit: int | None, as_json: bool) -> None:
    """Entries, the newest first."""
    whole = scannable(store)
    rows = (_row(stored, whole) for stored in islice(entries(store, filter, newest_first=True), limit))
    if as_json:
        for row in rows:
            print_json({**facts_of(row.stored), **_texts(row)})
        return
    found = list(rows)
    if not found:
        say("No entries match." if filter != Filter() else "There are no entries.")
        return
    print_table(list(_columns(found)))
    if len(found) == limit:
        say(f"The newest {limit:,}; --limit shows more.")


def _columns(rows: Sequence[_Row]) -> Iterator[Column]:
    facts = [row.stored.facts for row in rows]
    namespaces = [shown(row.stored.namespace) for row in rows]
    samples = [str(row.sample) for row in rows]
    problems = [f"({row.problem})" if row.problem else "" for row in rows]
    texts = list(zip(rows, problems, strict=True))
    yield Column(name="key", cells=[row.stored.key.hex()[:_KEY_DIGITS] for row in rows])
    yield _times("stored", [each.created for each in facts])
    if len(set(namespaces)) > 1:
        yield Column(name="cache key", cells=namespaces, share=1)
    yield Column(name="model", cells=[_cut(shown(each.model or each.asked or NOTHING)) for each in facts], share=1)
    yield Column(name="tokens", cells=list(map(_tokens, facts)), right=True, rank=3)
    yield Column(name="paid", cells=[money(each.cost) for each in facts], right=True, rank=2)
    if set(samples) != {"0"}:
        yield Column(name="sample", cells=samples, right=True)
    yield Column(name="prompt", cells=[shown((row.prompt or other)[:_SNIPPET]) for row, other in texts], share=1)
    answers = [shown((row.completion or row.instead or other)[:_SNIPPET]) for row, other in texts]
    yield Column(name="answer", cells=answers, share=1, rank=1)


def _times(name: str, times: Sequence[float]) -> Column:
    """Days; or, where all are of one day, the times of it."""
    days = {day(when) for when in times}
    if len(days) == 1 and days != {NOTHING}:
        return Column(name=f"{days.pop()[5:]} UTC", cells=[date(when)[-len("14:03") :] for when in times], rank=1)
    return Column(name=f"{name}, UTC", cells=[day(when) for when in times], rank=1)


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _tokens(facts: Facts) -> str:
    sent = sum(each or 0 for each in (facts.input_tokens, facts.cache_read_tokens, facts.cache_write_tokens))
    return f"{sent:,}→{facts.output_tokens or 0:,}"


def _row(stored: Stored, store: ScanStore) -> _Row:
    response: APIResponse | None = None
    request: StoredRequest | None = None
    problem = None
    try:
        response = decode(stored.key, stored.value).response
        request = unpack_request(stored.request, store.read_blobs) if stored.request else None
    except DamagedEntryError as error:
        problem = f"damaged: {error}"
    return _Row(
        stored=stored,
        prompt=None if request is None else last_text(request.conversation),
        completion=None if response is None else response.completion,
        instead="" if response is None else _instead(response),
        sample=0 if request is None else request.sample,
        problem=problem,
    )


def _instead(response: APIResponse) -> str:
    """What to show of an answer without text."""
    calls = ", ".join(call.name for call in response.tool_calls)
    return f"[tool call {calls}]" if calls else "(empty)"


def _texts(row: _Row) -> dict[str, Any]:
    return {"prompt": row.prompt, "sample": row.sample, "completion": row.completion, "problem": row.problem}


def facts_of(stored: Stored) -> dict[str, Any]:
    """What is known of an entry without decoding it. Times are in seconds since the Unix epoch."""
    facts = stored.facts
    return {
        "key": stored.key.hex(),
        "namespace": stored.namespace or None,
        **msgspec.structs.asdict(facts),
        "created": facts.created or None,
        "run": str(facts.run) if facts.run else None,  # too large for the numbers of many JSON readers
        "bytes": stored.size,
        "expires": stored.expires,
        "used": stored.used,
    }


def print_quarantined(store: Store, filter: Filter, *, limit: int | None, as_json: bool) -> None:
    """Entries that are kept and not served, the oldest first, as they were quarantined."""
    whole = scannable(store)
    found = islice(choose(store, filter), limit)
    if as_json:
        for one in found:
            row = _row(one.stored, whole)
            told = {"when": one.entry.when, "reason": one.entry.reason}
            print_json({**facts_of(row.stored), **told, **_texts(row)})
        return
    quarantined = list(found)
    if not quarantined:
        say("No entries match." if filter != Filter() else "No entries are quarantined.")
        return
    rows = [_row(one.stored, whole) for one in quarantined]
    models = [row.stored.facts.model or row.stored.facts.asked or NOTHING for row in rows]
    columns = [
        Column(name="key", cells=[row.stored.key.hex()[:_KEY_DIGITS] for row in rows]),
        _times("quarantined", [one.entry.when for one in quarantined]),
        Column(name="model", cells=[_cut(shown(model)) for model in models], share=1, rank=2),
        Column(name="prompt", cells=[shown((row.prompt or NOTHING)[:_SNIPPET]) for row in rows], share=1),
        Column(name="why", cells=[shown(one.entry.reason) for one in quarantined], share=1, breaks=True),
    ]
    print_table(columns)
    if len(quarantined) == limit:
        say(f"The oldest {limit:,}; --limit shows more.")
