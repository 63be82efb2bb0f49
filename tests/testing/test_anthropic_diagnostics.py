"""Cache diagnostics, as the official SDK reads them: where a request departs from the one before it.

One word of ``words`` is one token.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from lm_deluge.testing import Emulator, Fault
from lm_deluge.testing.anthropic_messages.diagnostics import Fingerprint, Fingerprints

anthropic = pytest.importorskip("anthropic")

pytestmark = pytest.mark.usefixtures("sdk_warnings")

MODEL = "claude-opus-4-6"
MARK = {"type": "ephemeral"}


def words(count: int, word: str = "a") -> str:
    return (word * 3 + " ") * count


def text(count: int, word: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words(count, word), **more}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": {"x": {}, "y": {}}}, **more}


REORDERED = {"name": "g", "input_schema": {"type": "object", "properties": {"y": {}, "x": {}}}}
TURN = {"role": "assistant", "content": "So it is."}
FIRST: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 64,
    "tools": [tool("f"), tool("g")],
    "system": [text(300), text(200, "b")],
    "messages": [user(text(100), text(50, "b")), TURN, user(text(70, "c"))],
}


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=emulator.anthropic_base_url, api_key="k", max_retries=0) as made:
        yield made


def opted_in(client: Any, **request: Any) -> str:
    """Send a first request and return the id of its answer."""
    first = client.messages.create(**request, diagnostics={"previous_message_id": None})
    assert first.diagnostics is None, "there is nothing to compare with"
    return str(first.id)


def diagnosed(client: Any, previous: str, **request: Any) -> Any:
    """The diagnostics of a request, parsed strictly."""
    raw = client.messages.with_raw_response.create(**request, diagnostics={"previous_message_id": previous})
    told = msgspec.json.decode(raw.http_response.content)["diagnostics"]
    if told is not None:
        anthropic.types.Diagnostics.model_validate(told, strict=True, extra="forbid")
    return raw.parse().diagnostics


def later(*, words_before: int = 100, **changes: Any) -> dict[str, Any]:
    """The request that follows ``FIRST``, one turn longer."""
    before = [user(text(words_before), text(50, "b")), *FIRST["messages"][1:]]
    return {**FIRST, "messages": [*before, TURN, user(text(10, "d"))], **changes}


def test_a_conversation_that_only_grows_departs_nowhere(client: Any) -> None:
    previous = opted_in(client, **FIRST)
    for request in (FIRST, later(), later(max_tokens=32, stop_sequences=["x"], metadata={"user_id": "u"})):
        assert diagnosed(client, previous, **request) is None


def test_marks_and_other_spellings_of_the_same_prompt_are_no_departure(client: Any) -> None:
    request = {**FIRST, "system": words(300)}
    previous = opted_in(client, **request)
    moved = {
        **request,
        "tools": [tool("f"), tool("g", cache_control=MARK)],
        "system": [text(300, cache_control=MARK)],
        "messages": [*FIRST["messages"], TURN, user(text(10, "d", cache_control=MARK))],
    }
    assert diagnosed(client, previous, **moved) is None


SYSTEM_ON = 300 + 200 + 100 + 50 + 3 + 70  # "So it is." is three tokens
DEPARTURES: dict[str, tuple[dict[str, Any], str, int]] = {
    "a later system block": (later(system=[text(300), text(200, "x")]), "system_changed", SYSTEM_ON - 300),
    "the first system block": (later(system=[text(299), text(200, "b")]), "system_changed", SYSTEM_ON),
    "a system block more": (later(system=[*FIRST["system"], text(1)]), "system_changed", SYSTEM_ON - 500),
    "no system": (later(system=[]), "system_changed", SYSTEM_ON),
    "an earlier message": (later(words_before=99), "messages_changed", 100 + 50 + 3 + 70),
    "the last message": ({**FIRST, "messages": [*FIRST["messages"][:2], user(text(9))]}, "messages_changed", 70),
    "a message less": ({**FIRST, "messages": FIRST["messages"][:1]}, "messages_changed", 3 + 70),
    "system before messages": (later(system=[], words_before=99), "system_changed", SYSTEM_ON),
}


@pytest.mark.parametrize("case", DEPARTURES)
def test_the_first_level_that_departs_is_told(case: str, client: Any) -> None:
    request, kind, missed = DEPARTURES[case]
    reason = diagnosed(client, opted_in(client, **FIRST), **request).cache_miss_reason
    assert (reason.type, reason.cache_missed_input_tokens) == (kind, missed)


def test_tools_are_read_first(client: Any) -> None:
    def tokens(**request: Any) -> int:
        counted = {name: each for name, each in request.items() if name != "max_tokens"}
        return int(client.messages.count_tokens(**counted).input_tokens)

    previous = opted_in(client, **FIRST)
    whole, after_one = tokens(**FIRST), tokens(**{**FIRST, "tools": [tool("g")]})
    for tools, missed in [
        ([tool("f"), REORDERED], after_one),
        ([tool("f")], after_one),
        ([tool("g"), tool("f")], whole),
        ([], whole),
    ]:
        reason = diagnosed(client, previous, **later(tools=tools, system=[])).cache_miss_reason
        assert (reason.type, reason.cache_missed_input_tokens) == ("tools_changed", missed)


@pytest.mark.parametrize("change", [{"model": "claude-opus-4-5"}, {"extra_body": {"speed": "fast"}}])
def test_another_model_or_speed_comes_before_all_else(change: dict[str, Any], client: Any) -> None:
    previous = opted_in(client, **FIRST)
    reason = diagnosed(client, previous, **later(**change, tools=[], system=[])).cache_miss_reason
    tokens = client.messages.count_tokens(**{name: each for name, each in FIRST.items() if name != "max_tokens"})
    assert (reason.type, reason.cache_missed_input_tokens) == ("model_changed", tokens.input_tokens)


@pytest.mark.parametrize(
    "change",
    [
        {"tool_choice": {"type": "any"}},
        {"thinking": {"type": "adaptive"}},
        {"output_config": {"effort": "low"}},
        {"extra_headers": {"anthropic-beta": "some-beta-2026-01-01"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_setting_makes_the_comparison_unavailable(change: dict[str, Any], client: Any) -> None:
    previous = opted_in(client, **FIRST)
    assert diagnosed(client, previous, **later(**change, words_before=99)).cache_miss_reason.type == "unavailable"
    assert diagnosed(client, previous, **later(**change, system=[])).cache_miss_reason.type == "system_changed"


def test_only_what_opted_in_is_remembered_for_its_workspace_until_a_reset(client: Any, emulator: Emulator) -> None:
    def found(previous: str, **options: Any) -> bool:
        told = diagnosed(client, previous, **FIRST, **options)
        return told is None or told.cache_miss_reason.type != "previous_message_not_found"

    silent = client.messages.create(**FIRST)
    assert silent.diagnostics is None
    assert not found(silent.id)
    assert not found("msg_never")
    assert not found("")
    previous = opted_in(client, **FIRST)
    assert found(previous)
    assert not found(previous, extra_headers={"x-api-key": "another"})
    emulator.reset()
    assert not found(previous)


def test_a_refused_request_leaves_nothing_and_each_answer_can_be_named(client: Any, emulator: Emulator) -> None:
    previous = opted_in(client, **FIRST)
    emulator.script([Fault.overloaded()])
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(**later(), diagnostics={"previous_message_id": previous})
    second = client.messages.create(**later(), diagnostics={"previous_message_id": previous})
    reason = diagnosed(client, second.id, **FIRST).cache_miss_reason
    assert (reason.type, reason.cache_missed_input_tokens) == ("messages_changed", 3 + 10)


def test_a_stream_tells_it_when_it_starts(client: Any) -> None:
    previous = opted_in(client, **FIRST)
    with client.messages.stream(**later(system=[]), diagnostics={"previous_message_id": previous}) as stream:
        start = next(event for event in stream if event.type == "message_start")
        assert start.message.diagnostics.cache_miss_reason.type == "system_changed"
        whole = stream.get_final_message()
    assert whole.diagnostics == start.message.diagnostics
    assert diagnosed(client, whole.id, **later(system=[])) is None, "a streamed answer can be named as well"


def test_the_oldest_fingerprints_go() -> None:
    kept = Fingerprints()
    one = Fingerprint((MODEL, "standard"), {"tools": [], "system": [], "messages": []}, b"")
    for number in range(4_097):
        kept.keep(one, credential="k", message_id=str(number))
    gone = {"cache_miss_reason": {"type": "previous_message_not_found"}}
    assert kept.diagnose(one, credential="k", previous="0") == gone
    assert kept.diagnose(one, credential="k", previous="1") is None
    assert kept.diagnose(one, credential="k", previous="4096") is None
