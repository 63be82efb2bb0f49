"""The page of ``deluge cache show``: one entry with its request, its answer and all that is known of it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from lm_deluge.cache.admin.filters import scannable
from lm_deluge.cache.admin.housekeeping import find
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Quarantined, Stored
from lm_deluge.cache.record import StoredRequest, unpack_request
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import JournalStore, Store
from lm_deluge.cli.cache.entries import facts_of
from lm_deluge.cli.cache.quarantine import find_quarantined, namespaces_of
from lm_deluge.cli.output import make_console, print_json
from lm_deluge.cli.terminal import shown
from lm_deluge.errors import ConfigError, DamagedEntryError
from lm_deluge.prompt import File, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.response import APIResponse
from lm_deluge.text import ago, moment, money, size

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_entry"]

_SHORT = 1_000
"""Characters of a text that are shown, half of them from its end, unless all of it is asked for."""


class _Page(NamedTuple):
    """An entry as far as it can be read; ``problems`` says what could not."""

    stored: Stored
    quarantined: Quarantined | None
    earlier: tuple[Quarantined, ...]
    response: APIResponse | None
    request: StoredRequest | None
    problems: tuple[str, ...]
    run: Run | None


def print_entry(store: Store, prefix: str, *, quarantined: bool, full: bool, as_json: bool) -> None:
    """One entry, found by the beginning of its key: the one in service, or the latest quarantined one."""
    page = _read(store, prefix, quarantined=quarantined)
    if as_json:
        print_json(_plain_page(page))
        return
    console = make_console()
    _print_facts(console, page)
    if page.request is not None:
        for message in page.request.conversation.messages:
            _print_message(console, message.role, message, full=full)
    if page.response is not None and page.response.content is not None:
        _print_message(console, "answer", page.response.content, full=full)


def _read(store: Store, prefix: str, *, quarantined: bool) -> _Page:
    stored, held = _find(store, prefix, quarantined=quarantined)
    response = request = None
    problems = []
    try:
        response = decode(stored.key, stored.value).response
    except DamagedEntryError as error:
        problems.append(str(error))
    try:
        request = unpack_request(stored.request, scannable(store).read_blobs) if stored.request else None
    except DamagedEntryError as error:
        problems.append(str(error))
    run = None
    if stored.facts.run and isinstance(store, JournalStore):
        run = next((run for run in store.runs() if run.id == stored.facts.run), None)
    earlier = () if held else tuple(one for one in scannable(store).quarantined() if one.key == stored.key)
    return _Page(stored, held, earlier, response, request, tuple(problems), run)


def _find(store: Store, prefix: str, *, quarantined: bool) -> tuple[Stored, Quarantined | None]:
    try:
        if not quarantined:
            return find(store, prefix), None
    except ConfigError as error:
        try:
            found = find_quarantined(store, prefix)
        except ConfigError:
            raise error from None
    found = find_quarantined(store, prefix, namespaces=namespaces_of(store))
    return found.stored, found.entry


def _plain_page(page: _Page) -> dict[str, Any]:
    request = page.request
    return {
        **facts_of(page.stored),
        "quarantined": None if page.quarantined is None else _plain_quarantined(page.quarantined),
        "earlier_quarantined": [_plain_quarantined(each) for each in page.earlier],
        "problems": page.problems,
        "request": None
        if request is None
        else {
            "conversation": request.conversation.to_log(preserve_media=False),
            "parameters": None if request.parameters is None else msgspec.to_builtins(request.parameters),
            "scope": request.scope,
            "sample": request.sample,
            "redacted": request.redacted,
        },
        "response": None if page.response is None else _plain_response(page.response),
    }


def _plain_quarantined(quarantined: Quarantined) -> dict[str, Any]:
    return {"when": quarantined.when, "reason": quarantined.reason}


def _plain_response(response: APIResponse) -> dict[str, Any]:
    """With the provider's body as text where it is, for ``jq`` and its like; ``raw_body_base64`` holds any other."""
    plain = response.to_dict()
    body = plain.pop("raw_body", None)
    try:
        plain["raw_body"] = None if response.raw_body is None else response.raw_body.decode()
    except UnicodeDecodeError:
        plain["raw_body_base64"] = body
    return plain


# For people


def _print_facts(console: "Console", page: _Page) -> None:
    from rich.table import Table
    from rich.text import Text as Line

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _facts(page):
        grid.add_row(name, Line(shown(value)))
    console.print(grid)


def _facts(page: _Page) -> Iterator[tuple[str, str]]:
    stored, facts = page.stored, page.stored.facts
    yield "key", stored.key.hex()
    if page.quarantined is not None:
        yield "quarantined", f"{moment(page.quarantined.when, seconds=True)}: {page.quarantined.reason}"
    for one in page.earlier:
        when = moment(one.when, seconds=True)
        yield "before", f"an answer was quarantined on {when}: {one.reason}; --quarantined shows the last"
    for problem in page.problems:
        yield "damaged", problem
    if stored.namespace:
        yield "cache key", stored.namespace
    if facts.created:
        yield "stored", _when(facts.created)
    if stored.expires is not None:
        yield "expires", _when(stored.expires)
    if stored.used is not None:
        yield "last used", _when(stored.used)
    if page.response is not None:
        yield from _answer_facts(page.response)
    if page.run is not None:
        tags = f", tagged {', '.join(page.run.tags)}" if page.run.tags else ""
        yield "bought by", f"run {page.run.name or page.run.id} of {moment(page.run.started, seconds=True)}{tags}"
    if page.request is not None:
        yield from _request_facts(page.request)
    yield "size", size(stored.size)


def _when(time: float) -> str:
    return f"{moment(time, seconds=True)} ({ago(time)})"


def _answer_facts(response: APIResponse) -> Iterator[tuple[str, str]]:
    asked, answered = response.model_internal, response.model
    yield "model", answered if answered == asked or not asked else f"{answered}, asked as {asked}"
    usage = response.usage
    if usage is not None:
        kinds = (
            (usage.input_tokens, "input"),
            (usage.cache_read_tokens, "cache read"),
            (usage.cache_write_tokens, "cache write"),
            (usage.output_tokens, "output"),
        )
        yield "tokens", ", ".join(f"{number:,} {kind}" for number, kind in kinds if number) or "none"
    yield "paid", "not known" if response.cost is None else money(response.cost)
    yield "finished", response.finish_reason or "not known"


def _request_facts(request: StoredRequest) -> Iterator[tuple[str, str]]:
    if request.scope != "conversation":
        yield "scope", request.scope
    if request.sample:
        yield "sample", str(request.sample)
    if request.redacted:
        yield "redacted", "the request was changed on export and no longer gives this key"
    asked = request.parameters
    if asked is None:
        return
    settings = {**asked.params, **asked.extra_body}
    if asked.tool_choice is not None:
        settings["tool_choice"] = asked.tool_choice
    if settings:
        yield "parameters", ", ".join(f"{name} {_json(value)}" for name, value in settings.items())
    if asked.tools:
        yield "tools", ", ".join(str(tool.get("name")) for tool in asked.tools)
    if asked.output_schema is not None:
        yield "schema", _json(asked.output_schema)
    if asked.endpoint:
        yield "endpoint", asked.endpoint


def _print_message(console: "Console", heading: str, message: Message, *, full: bool) -> None:
    from rich.rule import Rule
    from rich.text import Text as Line

    console.print()
    style = "green" if heading == "answer" else "cyan"
    console.print(Rule(Line(heading, style=f"bold {style}"), align="left", style="dim"))
    for part in message.parts:
        text, dim = _described(part)
        if not full and len(text) > _SHORT:
            left_out = f"… {len(text) - _SHORT:,} characters left out; --full shows them …"
            text = "\n".join([text[: _SHORT // 2], left_out, text[-_SHORT // 2 :]])
        console.print(Line(shown(text, lines=True), style="dim" if dim else ""), soft_wrap=not console.is_terminal)


def _described(part: Any) -> tuple[str, bool]:
    """A part as text, and whether that stands for something else."""
    match part:
        case Text():
            return part.text, False
        case Image() | File():
            what = "image" if isinstance(part, Image) else f"file {part.filename or ''}".strip()
            held = f"{part.media_type}, {size(len(part.data))}, SHA-256 {part.digest[:16]}…" if part.data else part.url
            return f"[{what}: {held}]", True
        case ToolCall():
            return f"[calls {part.name}({_json(part.arguments)}), id {part.id}]", False
        case ToolResult():
            results = [Text(part.result)] if isinstance(part.result, str) else part.result
            whole = "\n".join(_described(item)[0] for item in results)
            return f"[{'error' if part.is_error else 'result'} of {part.tool_call_id}]\n{whole}", False
        case Thinking():
            return f"[thinking] {part.text or ('redacted' if part.redacted else '(not shown by the provider)')}", True
        case ProviderBlock():
            return f"[{part.wire} block] {_json(part.block)}", True
    return str(part), True


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
