"""The rows of ``deluge cache list``: entries in service, and those that were set aside."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from lm_deluge.cache.archive.filters import Filter, entries, scannable
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Facts, SetAside, Stored
from lm_deluge.cache.record import unpack_request
from lm_deluge.cache.stores import ScanStore, Store
from lm_deluge.cli.cache.printing import Column, date, day, make_console, print_json, print_table, say
from lm_deluge.cli.terminal import shown
from lm_deluge.errors import DamagedEntryError
from lm_deluge.progress.text import money

__all__ = ["facts_of", "print_entries", "print_set_aside"]

_KEY_DIGITS = 8
_SNIPPET = 200
_NAME_WIDTH = 24  # of a model


class _Row(msgspec.Struct, frozen=True):
    """An entry, and what can be read of its texts."""

    stored: Stored
    prompt: str | None
    completion: str | None
    problem: str | None


def print_entries(store: Store, filter: Filter, *, limit: int | None, as_json: bool) -> None:
    """Entries, the newest first."""
    rows = _rows(store, filter, limit)
    if as_json:
        for row in rows:
            texts = {"prompt": row.prompt, "completion": row.completion, "problem": row.problem}
            print_json({**facts_of(row.stored), **texts})
        return
    found = list(rows)
    if not found:
        say("No entries match." if filter != Filter() else "There are no entries.")
        return
    print_table(make_console(), list(_columns(found)))
    if len(found) == limit:
        say(f"The newest {limit:,}; --limit shows more.")


def _columns(rows: Sequence[_Row]) -> Iterator[Column]:
    facts = [row.stored.facts for row in rows]
    namespaces = [shown(row.stored.namespace) for row in rows]
    problems = [f"({row.problem})" if row.problem else "" for row in rows]
    texts = list(zip(rows, problems, strict=True))
    yield Column(name="key", cells=[row.stored.key.hex()[:_KEY_DIGITS] for row in rows])
    yield Column(name="stored", cells=[day(each.created) for each in facts], rank=1)
    if len(set(namespaces)) > 1:
        yield Column(name="namespace", cells=namespaces, share=1)
    yield Column(name="model", cells=[_cut(shown(each.model or each.asked or "–")) for each in facts])
    yield Column(name="tokens", cells=list(map(_tokens, facts)), right=True, rank=3)
    yield Column(name="paid", cells=["–" if each.cost is None else money(each.cost) for each in facts], right=True)
    yield Column(name="prompt", cells=[shown((row.prompt or other)[:_SNIPPET]) for row, other in texts], share=1)
    answers = [shown((row.completion or other)[:_SNIPPET]) for row, other in texts]
    yield Column(name="answer", cells=answers, share=1, rank=2)


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _tokens(facts: Facts) -> str:
    sent = sum(each or 0 for each in (facts.input_tokens, facts.cache_read_tokens, facts.cache_write_tokens))
    return f"{sent:,}→{facts.output_tokens or 0:,}"


def _rows(store: Store, filter: Filter, limit: int | None) -> Iterator[_Row]:
    whole = scannable(store)
    for stored in islice(entries(store, filter, newest_first=True), limit):
        prompt = completion = problem = None
        try:
            completion = decode(stored.key, stored.value).response.completion
            prompt = _last_text(stored, whole)
        except DamagedEntryError as error:
            problem = f"damaged: {error}"
        yield _Row(stored, prompt, completion, problem)


def _last_text(stored: Stored, store: ScanStore) -> str | None:
    """The text of the last message of a request that has any."""
    if not stored.request:
        return None
    messages = unpack_request(stored.request, store.read_blobs).conversation.messages
    texts = (message.completion for message in reversed(messages))
    return next((text for text in texts if text), None)


def facts_of(stored: Stored) -> dict[str, Any]:
    """What is known of an entry without decoding it. Times are in seconds since the Unix epoch."""
    facts = stored.facts
    return {
        "key": stored.key.hex(),
        "namespace": stored.namespace or None,
        **{name: getattr(facts, name) for name in facts.__struct_fields__},
        "created": facts.created or None,
        "run": str(facts.run) if facts.run else None,  # too large for the numbers of many JSON readers
        "bytes": stored.size,
        "expires": stored.expires,
        "used": stored.used,
    }


def print_set_aside(store: Store, *, limit: int | None, as_json: bool) -> None:
    """Entries that are kept and not served, the oldest first, as they were set aside."""
    found: Iterator[SetAside] = islice(scannable(store).set_aside_entries(), limit)
    if as_json:
        for entry in found:
            print_json({"key": entry.key, "when": entry.when, "reason": entry.reason, "bytes": len(entry.value)})
        return
    rows = list(found)
    if not rows:
        say("No entries are set aside.")
        return
    columns = [
        Column(name="key", cells=[entry.key.hex()[:_KEY_DIGITS] for entry in rows]),
        Column(name="set aside", cells=[date(entry.when) for entry in rows]),
        Column(name="why", cells=[shown(entry.reason) for entry in rows], share=1, breaks=True),
    ]
    print_table(make_console(), columns)
