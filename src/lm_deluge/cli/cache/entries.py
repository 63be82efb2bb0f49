"""The rows of ``deluge cache list``: entries in service, and those that were quarantined."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Facts, Quarantined, Stored, short_id
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

__all__ = ["facts_of", "print_entries"]

_SNIPPET = 200
_NAME_WIDTH = 24  # of a model


class _Row(NamedTuple):
    """An entry, why it is not served, and what can be read of its texts; ``instead`` stands for an empty answer."""

    stored: Stored
    held: Quarantined | None
    prompt: str | None
    completion: str | None
    instead: str
    sample: int
    problem: str | None


def print_entries(store: Store, filter: Filter, *, quarantined: bool, limit: int | None, as_json: bool) -> None:
    """Entries in service, the newest first; or those that are kept and not served, the oldest first."""
    whole = scannable(store)
    found: Iterator[tuple[Stored, Quarantined | None]]
    if quarantined:
        found = ((one.stored, one.entry) for one in choose(store, filter))
    else:
        found = ((stored, None) for stored in entries(store, filter, newest_first=True))
    rows = (_row(stored, whole, held) for stored, held in islice(found, limit))
    if as_json:
        for row in rows:
            told = {"when": row.held.when, "reason": row.held.reason} if row.held else {}
            print_json({**facts_of(row.stored), **told, **_texts(row)})
        return
    listed = list(rows)
    if not listed:
        nothing = "No entries are quarantined." if quarantined else "There are no entries."
        say("No entries match." if filter != Filter() else nothing)
        return
    print_table(list(_columns_of_quarantined(listed) if quarantined else _columns(listed)))
    if len(listed) == limit:
        say(f"The {'oldest' if quarantined else 'newest'} {limit:,}; --limit shows more.")


def _columns(rows: Sequence[_Row]) -> Iterator[Column]:
    facts = [row.stored.facts for row in rows]
    namespaces = [shown(row.stored.namespace) for row in rows]
    samples = [str(row.sample) for row in rows]
    problems = [f"({row.problem})" if row.problem else "" for row in rows]
    texts = list(zip(rows, problems, strict=True))
    yield Column(name="key", cells=[short_id(row.stored.key) for row in rows])
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


def _columns_of_quarantined(rows: Sequence[_Row]) -> Iterator[Column]:
    held = [row.held for row in rows if row.held]
    models = [row.stored.facts.model or row.stored.facts.asked or NOTHING for row in rows]
    yield Column(name="key", cells=[short_id(row.stored.key) for row in rows])
    yield _times("quarantined", [each.when for each in held])
    yield Column(name="model", cells=[_cut(shown(model)) for model in models], share=1, rank=2)
    yield Column(name="prompt", cells=[shown((row.prompt or NOTHING)[:_SNIPPET]) for row in rows], share=1)
    yield Column(name="why", cells=[shown(each.reason) for each in held], share=1, breaks=True)


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


def _row(stored: Stored, store: ScanStore, held: Quarantined | None) -> _Row:
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
        held=held,
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
