"""The simulated OpenAI prompt cache under its two sets of rules, on a clock that stands still.

One word of ``words`` is one token, and each message costs one more for its role.
"""

from typing import Any

import pytest

from lm_deluge.testing import Emulator, FakeClock

PATH = "/v1/chat/completions"
CLASSIC = "gpt-4.1-mini"
NEWER = "gpt-6.1-sol"
BREAK = {"mode": "explicit"}


def words(count: int, word: str = "a") -> str:
    return (word * 3 + " ") * count


def text(count: int, word: str = "a", *, mark: bool = False) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "text", "text": words(count, word)}
    return {**part, "prompt_cache_breakpoint": BREAK} if mark else part


def body(*content: Any, model: str = CLASSIC, system: int = 0, **more: Any) -> dict[str, Any]:
    messages: list[Any] = [{"role": "system", "content": words(system, "s")}] if system else []
    return {"model": model, "messages": [*messages, {"role": "user", "content": list(content)}], **more}


@pytest.fixture
def usage(emulator: Emulator, ask: Any) -> Any:
    """Send a request and return (all prompt tokens, read, written)."""

    def send(sent: dict[str, Any], **options: Any) -> tuple[int, int, int]:
        answer = ask(emulator, sent, path=PATH, **options)
        assert answer.status == 200, answer.body
        used = answer.json["usage"]
        details = used["prompt_tokens_details"]
        return (used["prompt_tokens"], details["cached_tokens"], details["cache_write_tokens"])

    return send


# -- before GPT-5.6 ----------------------------------------------------------------------------------------------------


def test_the_common_prefix_is_read_in_steps_of_128(usage: Any) -> None:
    assert usage(body(text(2000))) == (2001, 0, 0)
    assert usage(body(text(2000))) == (2001, 1920, 0)
    assert usage(body(text(1500), text(500, "b"))) == (2001, 1408, 0), "1,501 tokens in common: eleven steps"


def test_prompts_and_prefixes_below_1024_tokens_are_not_cached(usage: Any) -> None:
    for _ in range(2):
        assert usage(body(text(1022))) == (1023, 0, 0)
    usage(body(text(2000)))
    assert usage(body(text(1000), text(1000, "b"))) == (2001, 0, 0), "the common prefix is too short"
    usage(body(text(1023, "c")))
    assert usage(body(text(1023, "c"))) == (1024, 1024, 0)


def test_memory_forgets_after_ten_idle_minutes_and_24h_after_a_day(usage: Any, clock: FakeClock) -> None:
    usage(body(text(2000)))
    clock.advance(599)
    assert usage(body(text(2000)))[1] == 1920
    clock.advance(599)
    assert usage(body(text(2000)))[1] == 1920, "the read renewed it"
    clock.advance(600)
    assert usage(body(text(2000), prompt_cache_retention="24h"))[1] == 0
    clock.advance(86_399)
    assert usage(body(text(2000)))[1] == 1920


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-4.1"},
        {"prompt_cache_key": "k"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_separates_caches(change: dict[str, Any], usage: Any) -> None:
    usage(body(text(2000)))
    assert usage({**body(text(2000)), **change})[1] == 0
    assert usage(body(text(2000), temperature=0.5, max_tokens=9, stop="x", n=2))[1] == 1920


def test_credentials_do_not_share(usage: Any) -> None:
    usage(body(text(2000)), key="one")
    assert usage(body(text(2000)), key="two")[1] == 0


# -- from GPT-5.6 on ---------------------------------------------------------------------------------------------------


def test_the_implicit_breakpoint_writes_through_a_varying_tail_and_never_hits(usage: Any) -> None:
    for word in "bcd":
        assert usage(body(text(2000), text(9, word), model=NEWER)) == (2010, 0, 2010)


def test_the_implicit_breakpoint_serves_a_growing_conversation(usage: Any) -> None:
    conversation = body(text(2000), model=NEWER)
    assert usage(conversation) == (2001, 0, 2001)
    conversation["messages"] += [{"role": "assistant", "content": words(9)}, {"role": "user", "content": words(9)}]
    assert usage(conversation) == (2021, 2001, 20)


def test_an_explicit_breakpoint_is_read_by_every_tail(usage: Any) -> None:
    options = {"mode": "explicit", "ttl": "30m"}
    assert usage(body(text(2000, mark=True), text(9, "b"), model=NEWER, prompt_cache_options=options)) == (
        2010,
        0,
        2001,
    )
    assert usage(body(text(2000, mark=True), text(9, "c"), model=NEWER, prompt_cache_options=options)) == (
        2010,
        2001,
        0,
    )


def test_in_implicit_mode_the_tail_is_written_as_well(usage: Any) -> None:
    assert usage(body(text(2000, mark=True), text(9, "b"), model=NEWER)) == (2010, 0, 2010)
    assert usage(body(text(2000, mark=True), text(9, "c"), model=NEWER)) == (2010, 2001, 9)


def test_explicit_mode_without_a_breakpoint_caches_nothing(usage: Any) -> None:
    for _ in range(2):
        assert usage(body(text(2000), model=NEWER, prompt_cache_options={"mode": "explicit"})) == (2001, 0, 0)


def test_only_the_latest_four_breakpoints_are_written(usage: Any) -> None:
    options = {"mode": "explicit"}

    def read(marked: int) -> int:
        parts = [text(1100, word, mark=index == marked) for index, word in enumerate("abcde")]
        return int(usage(body(*parts, model=NEWER, prompt_cache_options=options))[1])

    five = [text(1100, word, mark=True) for word in "abcde"]
    assert usage(body(*five, model=NEWER, prompt_cache_options=options)) == (5501, 0, 5501)
    assert [read(4), read(1)] == [5501, 2201]
    assert read(0) == 0, "the oldest breakpoint was dropped"


def test_breakpoints_below_1024_tokens_are_not_written(usage: Any) -> None:
    options = {"mode": "explicit"}
    for _ in range(2):
        assert usage(body(text(1000, mark=True), text(1000), model=NEWER, prompt_cache_options=options)) == (2001, 0, 0)


def test_breakpoints_live_thirty_idle_minutes(usage: Any, clock: FakeClock) -> None:
    sent = body(text(2000), model=NEWER)
    usage(sent)
    clock.advance(1799)
    assert usage(sent) == (2001, 2001, 0)
    clock.advance(1799)
    assert usage(sent) == (2001, 2001, 0)
    clock.advance(1800)
    assert usage(sent) == (2001, 0, 2001)


def test_a_breakpoint_on_an_image_does_not_change_its_prefix(usage: Any) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    marked = {**image, "prompt_cache_breakpoint": BREAK}
    assert usage(body(marked, model=NEWER))[2] == 1601
    assert usage(body(image, model=NEWER))[1] == 1601


@pytest.mark.parametrize(
    "change", [{"reasoning_effort": "low"}, {"verbosity": "low"}], ids=lambda each: next(iter(each))
)
def test_what_else_separates_caches_of_reasoning_models(change: dict[str, Any], usage: Any) -> None:
    usage(body(text(2000), model=NEWER))
    assert usage(body(text(2000), model=NEWER, **change))[1] == 0
