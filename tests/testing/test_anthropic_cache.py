"""The simulated Anthropic prompt cache against the rules of the prompt caching guide, on a clock that stands still.

One word of ``words`` is one token, so every expected count below can be read off the request.
"""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from lm_deluge.testing import Emulator, FakeClock

MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
MODEL = "claude-sonnet-4-5"  # caches from 1,024 tokens on


def words(count: int, word: str = "a") -> str:
    """A text of ``count`` tokens of four bytes each."""
    return (word * 3 + " ") * count


def text(count: int, word: str = "a", mark: Any = None) -> dict[str, Any]:
    block = {"type": "text", "text": words(count, word)}
    return block if mark is None else {**block, "cache_control": mark}


def body(*content: Any, model: str = MODEL, **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": list(content)}], **more}


def tool(name: str = "f", mark: Any = None) -> dict[str, Any]:
    whole = {"name": name, "description": words(1200), "input_schema": {"type": "object"}}
    return whole if mark is None else {**whole, "cache_control": mark}


@pytest.fixture
def usage(emulator: Emulator, ask: Any) -> Any:
    """Send a request and return (input, read, written for 5 minutes, written for an hour)."""

    def send(sent: dict[str, Any], **options: Any) -> tuple[int, int, int, int]:
        answer = ask(emulator, sent, **options)
        assert answer.status == 200, answer.body
        used = answer.json["usage"]
        split = used["cache_creation"]
        assert used["cache_creation_input_tokens"] == sum(split.values())
        return (
            used["input_tokens"],
            used["cache_read_input_tokens"],
            split["ephemeral_5m_input_tokens"],
            split["ephemeral_1h_input_tokens"],
        )

    return send


def test_a_mark_writes_its_prefix_and_the_next_request_reads_it(usage: Any) -> None:
    assert usage(body(text(2000, mark=MARK), text(10, "b"))) == (10, 0, 2000, 0)
    assert usage(body(text(2000, mark=MARK), text(20, "c"))) == (20, 2000, 0, 0)


def test_nothing_is_written_or_read_without_a_mark(usage: Any) -> None:
    assert usage(body(text(2000))) == (2000, 0, 0, 0)
    assert usage(body(text(2000, mark=MARK))) == (0, 0, 2000, 0)
    assert usage(body(text(2000))) == (2000, 0, 0, 0)


@pytest.mark.parametrize(
    ("model", "minimum"),
    [
        ("claude-opus-5-5", 512),
        ("claude-haiku-5-5", 512),
        ("claude-sonnet-4-5-20250929", 1024),
        ("claude-opus-4-7", 2048),
        ("claude-haiku-4-5-20251001", 4096),
        ("a-model-nobody-knows", 1024),
    ],
)
def test_a_prefix_below_the_models_minimum_is_skipped_silently(model: str, minimum: int, usage: Any) -> None:
    for _ in range(2):
        assert usage(body(text(minimum - 1, mark=MARK), model=model)) == (minimum - 1, 0, 0, 0)
    assert usage(body(text(minimum, mark=MARK), model=model)) == (0, 0, minimum, 0)


def test_the_minimum_counts_the_whole_prefix(usage: Any) -> None:
    marked = body(text(600, mark=MARK), text(600, "b", mark=MARK))
    assert usage(marked) == (0, 0, 1200, 0)
    assert usage(marked) == (0, 1200, 0, 0)


def test_lifetimes_split_the_tokens_written(usage: Any) -> None:
    marked = body(text(2000, mark=HOUR), text(300, "b", mark=MARK), text(7, "c"))
    assert usage(marked) == (7, 0, 300, 2000)
    assert usage(marked) == (7, 2300, 0, 0)


def test_five_minutes_from_the_start_of_the_last_use(usage: Any, clock: FakeClock) -> None:
    marked = body(text(2000, mark=MARK))
    usage(marked)
    clock.advance(299)
    assert usage(marked) == (0, 2000, 0, 0), "alive before five minutes"
    clock.advance(299)
    assert usage(marked) == (0, 2000, 0, 0), "the read renewed it"
    clock.advance(300)
    assert usage(marked) == (0, 0, 2000, 0), "dead after five minutes"


def test_an_hour_outlives_five_minutes(usage: Any, clock: FakeClock) -> None:
    marked = body(text(2000, mark=HOUR), text(300, "b", mark=MARK))
    usage(marked)
    clock.advance(600)
    assert usage(marked) == (0, 2000, 300, 0)
    clock.advance(3599)
    assert usage(marked) == (0, 2000, 300, 0)
    clock.advance(3600)
    assert usage(marked) == (0, 0, 300, 2000)


def test_the_longest_prefix_wins(usage: Any) -> None:
    usage(body(text(2000, mark=MARK)))
    usage(body(text(2000), text(500, "b", mark=MARK)))
    assert usage(body(text(2000, mark=MARK), text(500, "b", mark=MARK), text(5, "c"))) == (5, 2500, 0, 0)
    assert usage(body(text(2000, mark=MARK), text(500, "x", mark=MARK), text(5, "c"))) == (5, 2000, 500, 0)


@pytest.mark.parametrize(("between", "hit"), [(18, True), (19, True), (20, False)])
def test_a_read_steps_back_over_twenty_positions_the_mark_included(between: int, hit: bool, usage: Any) -> None:
    usage(body(text(2000, mark=MARK)))
    tail = [text(1, "b") for _ in range(between - 1)]
    read = 2000 if hit else 0
    assert usage(body(text(2000), *tail, text(1, "c", mark=MARK))) == (0, read, 2000 + between - read, 0)


def calls(count: int) -> list[dict[str, Any]]:
    """A turn of parallel calls and one of their results: two positions, however many calls."""
    uses = [{"type": "tool_use", "id": f"t{n}", "name": "f", "input": {}} for n in range(count)]
    results = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": "ok  "} for n in range(count)]
    return [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]


def test_consecutive_calls_count_as_one_position_and_so_do_results(usage: Any) -> None:
    first = body(text(2000, mark=MARK), tools=[tool()])
    written = usage(first)[2]
    first["messages"][0]["content"] = [text(2000)]
    first["messages"] += calls(15)
    first["messages"][-1]["content"].append(text(1, "b", mark=MARK))
    assert usage(first)[1] == written


def test_another_request_reads_from_inside_a_run_of_results(usage: Any) -> None:
    conversation = body(text(2000), tools=[tool()])
    conversation["messages"] += calls(30)
    conversation["messages"][-1]["content"][4]["cache_control"] = MARK
    written = usage(conversation)[2]
    del conversation["messages"][-1]["content"][4]["cache_control"]
    conversation["messages"][-1]["content"][-1]["cache_control"] = MARK
    assert usage(conversation)[1] == written


def test_top_level_cache_control_marks_the_last_block(usage: Any) -> None:
    assert usage(body(text(2000), text(10, "b"), cache_control=MARK)) == (0, 0, 2010, 0)
    assert usage(body(text(2000), text(10, "b"), cache_control=MARK)) == (0, 2010, 0, 0)
    assert usage(body(text(2000), text(10, "c"), cache_control=MARK)) == (0, 0, 2010, 0), "a varying tail never hits"


def test_a_mark_inside_a_tool_result_counts_for_the_result(usage: Any) -> None:
    conversation = body(text(2000), tools=[tool()])
    conversation["messages"] += calls(1)
    conversation["messages"][-1]["content"][0]["content"] = [text(3, "r", mark=MARK)]
    written = usage(conversation)[2]
    assert written > 3200
    assert usage(conversation)[1] == written


# What a change loses: (the change, what is still read: nothing, the tools, the system text as well, or everything).
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "messages"),
    "sampling": ({"temperature": 0.5, "max_tokens": 32, "stop_sequences": ["END"]}, "messages"),
    "the user id": ({"metadata": {"user_id": "someone"}}, "messages"),
    "tool order": ({"tools": [tool("g"), tool("f", MARK)]}, "none"),
    "tool definition": ({"tools": [tool("f"), tool("h", MARK)]}, "none"),
    "model": ({"model": "claude-sonnet-4-6"}, "none"),
    "output format": ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, "none"),
    "system text": ({"system": [text(100, "S", MARK)]}, "tools"),
    "speed": ({"speed": "fast"}, "tools"),
    "tool choice": ({"tool_choice": {"type": "none"}}, "system"),
    "parallel calls": ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, "system"),
    "effort": ({"output_config": {"effort": "low"}}, "system"),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}, "system"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_change_invalidates(change: str, usage: Any) -> None:
    whole = body(text(50, "m", MARK), tools=[tool("f"), tool("g", MARK)], system=[text(100, "s", MARK)])
    total = usage(whole)[2]
    kept = {"none": 0, "tools": total - 150, "system": total - 50, "messages": total}
    changes, level = CHANGES[change]
    assert usage({**whole, **changes})[1] == kept[level]


def test_an_image_in_the_messages_keeps_tools_and_system_only(usage: Any) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    usage(body(text(50, "m", MARK), text(1), system=[text(2000, mark=MARK)]))
    assert usage(body(text(50, "m", MARK), image, system=[text(2000, mark=MARK)]))[1] == 2000


def test_citations_keep_the_tools_only(usage: Any) -> None:
    def document(enabled: bool) -> dict[str, Any]:
        source = {"type": "text", "media_type": "text/plain", "data": words(9)}
        return {"type": "document", "source": source, "citations": {"enabled": enabled}}

    def request(enabled: bool) -> dict[str, Any]:
        return body(document(enabled), tools=[tool(mark=MARK)], system=[text(2000, mark=MARK)])

    _, _, written, _ = usage(request(False))
    assert usage(request(True))[1:3] == (written - 2000, 2000)


def test_a_system_message_later_on_keeps_the_prefix(usage: Any) -> None:
    whole = body(text(2000, mark=MARK))
    usage(whole)
    whole["messages"] += [{"role": "system", "content": words(5)}, {"role": "user", "content": words(3)}]
    assert usage(whole) == (8, 2000, 0, 0)


def test_a_string_is_one_text_block(usage: Any) -> None:
    whole = body(text(2000, mark=MARK), system=words(100))
    usage(whole)
    assert usage({**whole, "system": [text(100)]}) == (0, 2100, 0, 0)


def test_the_same_block_in_another_role_is_another_prefix(usage: Any) -> None:
    whole = body(text(2000))
    whole["messages"] += [{"role": "user", "content": [text(5, "b", MARK)]}, {"role": "user", "content": words(1)}]
    assert usage(whole) == (1, 0, 2005, 0)
    whole["messages"][1]["role"] = "assistant"
    assert usage(whole) == (1, 0, 2005, 0)


def test_credentials_do_not_share_entries(usage: Any) -> None:
    marked = body(text(2000, mark=MARK))
    usage(marked, key="one")
    assert usage(marked, key="two") == (0, 0, 2000, 0)
    assert usage(marked, key="one") == (0, 2000, 0, 0)


def test_prewarming_writes_and_generates_nothing(emulator: Emulator, usage: Any, ask: Any) -> None:
    warm = ask(emulator, body(text(2000, mark=MARK), text(1, "b")) | {"max_tokens": 0}).json
    assert (warm["content"], warm["stop_reason"], warm["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    assert warm["usage"]["cache_creation_input_tokens"] == 2000
    assert usage(body(text(2000, mark=MARK), text(5, "c"))) == (5, 2000, 0, 0)


def test_counting_tokens_touches_no_entry(emulator: Emulator, usage: Any, ask: Any) -> None:
    whole = body(text(2000, mark=MARK))
    del whole["max_tokens"]
    for _ in range(2):
        answer = ask(emulator, whole, path="/v1/messages/count_tokens")
        assert answer.json == {"input_tokens": 2000}
    assert usage(body(text(2000, mark=MARK))) == (0, 0, 2000, 0)


def test_a_failed_request_writes_nothing(emulator: Emulator, usage: Any, ask: Any) -> None:
    from lm_deluge.testing import Fault

    emulator.script([Fault.overloaded(), Fault.rate_limit()])
    for _ in range(2):
        assert ask(emulator, body(text(2000, mark=MARK))).status in (429, 529)
    assert usage(body(text(2000, mark=MARK))) == (0, 0, 2000, 0)


# -- a random history against a second, naive implementation -----------------------------------------------------------

_LEVELS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([None, None, "5m", "1h"])), max_size=4)
_SECONDS = {"5m": 300, "1h": 3600}


class _Naive:
    """The rules once more, over tuples of blocks instead of digests."""

    def __init__(self) -> None:
        self.entries: dict[tuple[Any, ...], tuple[float, float]] = {}

    def expect(self, blocks: list[tuple[str, str, str | None]], now: float) -> tuple[int, int, int, int]:
        prefix = lambda at: tuple(block[:2] for block in blocks[: at + 1])  # noqa: E731
        alive = {key for key, (_, expires) in self.entries.items() if now < expires}
        marked = [at for at, block in enumerate(blocks) if block[2]]
        hits = [at for mark in marked for at in range(max(0, mark - 19), mark + 1) if prefix(at) in alive]
        hit = max(hits, default=-1)
        for at in {hit, *(mark for mark in marked if mark <= hit)}:
            if at >= 0 and prefix(at) in alive:
                seconds, _ = self.entries[prefix(at)]
                self.entries[prefix(at)] = (seconds, now + seconds)
        written, reached = {"5m": 0, "1h": 0}, (hit + 1) * 600
        for at in marked:
            if at > hit and (at + 1) * 600 >= 1024:
                ttl = str(blocks[at][2])
                written[ttl] += (at + 1) * 600 - reached
                reached = (at + 1) * 600
                old = self.entries.get(prefix(at), (0, 0.0))
                if old[1] < now + _SECONDS[ttl]:
                    self.entries[prefix(at)] = (_SECONDS[ttl], now + _SECONDS[ttl])
        return (len(blocks) * 600 - reached, (hit + 1) * 600, written["5m"], written["1h"])


def _ordered(blocks: list[tuple[str, str, str | None]]) -> list[tuple[str, str, str | None]]:
    """At most four marks, hours before minutes, as the API demands."""
    seen, minutes, result = 0, False, []
    for level, word, ttl in blocks:
        if ttl == "1h" and minutes:
            ttl = "5m"
        if ttl is not None:
            seen += 1
            minutes = minutes or ttl == "5m"
            if seen > 4:
                ttl = None
        result.append((level, word, ttl))
    return result


class CacheMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        from lm_deluge.testing.anthropic_messages import MessagesEndpoint

        self.endpoint = MessagesEndpoint()
        self.naive = _Naive()
        self.now = 0.0

    @rule(seconds=st.sampled_from([1, 150, 299, 300, 1800, 3600]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(system=_LEVELS, messages=_LEVELS.filter(bool), filler=st.sampled_from([0, 0, 17, 19, 21]))
    def ask(self, system: Any, messages: Any, filler: int) -> None:
        import msgspec

        blocks = [("system", word, ttl) for word, ttl in system]
        blocks += [("messages", "f", None)] * filler + [("messages", word, ttl) for word, ttl in messages]
        blocks = _ordered(blocks)

        def rendered(level: str) -> list[Any]:
            marks = {"5m": MARK, "1h": HOUR, None: None}
            return [text(600, word, marks[ttl]) for at, word, ttl in blocks if at == level]

        sent = body(*rendered("messages"), system=rendered("system"))
        headers = {"anthropic-version": "2023-06-01", "content-type": "application/json"}
        exchange = self.endpoint.accept(headers, msgspec.json.encode(sent), credential="k", identity="1")
        outcome = exchange.look_up(self.now)
        exchange.publish()
        actual = (outcome.uncached, outcome.read, outcome.write_5m, outcome.write_1h)
        assert actual == self.naive.expect(blocks, self.now)


CacheMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, derandomize=True, database=None
)
TestCacheMachine = CacheMachine.TestCase
