"""What a run would cost, told beforehand: against the emulator's own bill, which knows nothing of the estimate."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from lm_deluge import Conversation, LLMClient, Message, PromptCache, Tool
from lm_deluge.cache import MemoryCache
from lm_deluge.errors import ConfigError
from lm_deluge.prompt import Text, ToolCall, ToolResult
from lm_deluge.prompt_cache import PATTERNS
from lm_deluge.testing import Answer, Emulator, gsm8k

MODELS = ["claude-haiku-4-5", "gpt-6-sol", "gpt-4.1-mini"]
HIGH = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}
ANSWER = "word" * 60  # 60 tokens, as the emulator counts
WITHIN = 0.01


def examples(count: int) -> str:
    return "\n\n".join(f"{row['question']}\n{row['answer']}" for row in gsm8k("train")[:count])


def many_shot() -> tuple[list[Conversation], list[Tool]]:
    """GSM8K's test questions behind solved ones."""
    base = Conversation.system("Solve it as here.\n\n" + examples(60))
    return [base.user(row["question"]) for row in gsm8k()[:400]], []


def two_turns() -> tuple[list[Conversation], list[Tool]]:
    """MT-bench: both turns of each conversation, all first turns first."""
    path = Path(__file__).parents[1] / "data" / "mt_bench_question.jsonl"
    turns = [json.loads(line)["turns"] for line in path.read_text(encoding="utf-8").splitlines()]
    base = Conversation.system("You are a careful judge of reasoning.\n\n" + examples(50))
    first = [base.user(one) for one, _ in turns]
    return first + [each.ai(ANSWER * 4).user(two) for each, (_, two) in zip(first, turns, strict=True)], []


def with_tools() -> tuple[list[Conversation], list[Tool]]:
    """GSM8K's training questions with many tools, each kind of problem behind its own document."""
    schema = {"expression": {"type": "string", "description": "What to work out. " * 20}}
    tools = [Tool(name=f"calculate_{n}", description=f"Tool {n}. " * 60, parameters=schema) for n in range(30)]
    rows = gsm8k("train")
    documents = [f"Document {n}.\n\n" + "\n\n".join(row["answer"] for row in rows[n * 10 :][:60]) for n in range(4)]
    return [
        Conversation([Message.user(documents[n % 4]).with_text(row["question"])]) for n, row in enumerate(rows[:120])
    ], tools


DATA = [many_shot, two_turns, with_tools]


def answer(_):
    return Answer(text=ANSWER, thinking="")


@pytest.fixture(scope="module")
def provider():
    with Emulator(responder=answer) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def slow_provider():
    """One whose answers begin after all that can be under way has arrived, as the estimate assumes."""
    with Emulator(responder=answer, latency=0.7) as emulator:
        yield emulator


def client_of(emulator: Emulator, model: str, **arguments) -> LLMClient:
    url = emulator.anthropic_base_url if model.startswith("claude") else emulator.openai_base_url
    return LLMClient(model, base_url=url, api_key="any", **{**HIGH, **arguments})


def bills_beside_estimate(emulator, model, prompts, tools, caches, *, concurrency):
    """Ask with each way of caching, cold and warm, and hold the bills against the estimate. Returns both."""
    paid = {}
    with client_of(emulator, model, max_concurrent_requests=concurrency) as client:
        patterns = [cache for cache in caches if cache is not None]
        estimate = client.estimate(prompts, tools=tools, output_tokens=60, patterns=patterns)
    for cache in caches:
        with client_of(emulator, model, max_concurrent_requests=concurrency) as client:  # it knows of nothing warm
            cold, warm = bills(emulator, client, prompts, tools, cache)
        assert estimate[cache].cold.cost == pytest.approx(cold, rel=WITHIN), cache
        assert estimate[cache].warm.cost == pytest.approx(warm, rel=WITHIN), cache
        paid[cache] = cold
    return estimate, paid


def bills(emulator, client, prompts, tools, cache, runs=2):
    """What the provider charges for each of some runs, one after the other."""
    emulator.reset()
    found = []
    for _ in range(runs):
        responses = client.process_prompts_sync(prompts, tools=tools, cache=cache, show_progress=False)
        assert not any(response.is_error for response in responses), responses[0].error_message
        found.append(emulator.bill().cost - sum(found))
    return found


# One at a time, so that it is certain which request finds what another wrote.
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore::lm_deluge.errors.PromptCacheWarning")
def test_the_provider_bills_what_was_estimated(provider, data, model):
    prompts, tools = data()
    prompts = prompts[:: max(1, len(prompts) // 40)]
    estimate, paid = bills_beside_estimate(provider, model, prompts, tools, (None, *PATTERNS), concurrency=1)
    assert [each.pattern for each in estimate.forecasts] == [None, *PATTERNS]
    assert paid[estimate.best.pattern] <= min(paid.values()) * (1 + 1e-6)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore::lm_deluge.errors.PromptCacheWarning")
def test_what_is_sent_together_is_billed_as_it_was_estimated(slow_provider, data, model):
    prompts, tools = data()
    patterns = ("system_and_tools", "shared_prefix")
    bills_beside_estimate(slow_provider, model, prompts[:225], tools, patterns, concurrency=225)


def one_string() -> tuple[list[str], list[Tool]]:
    """Three documents in turn, each prompt one text."""
    return [f"{examples(60)[n % 3 * 2_000 :][:16_000]}\n\nWhat is {n} + {n}?" for n in range(40)], []


def growing_strings() -> tuple[list[str], list[Tool]]:
    """One document, cut off further and further on."""
    return [examples(60)[: 4_000 + 700 * n] + f"Part {n}" for n in range(40)], []


def tool_results(*, divided: bool = False) -> tuple[list[Conversation], list[Tool]]:
    """Three documents in turn, and each time something else, as the results of a tool."""

    def prompt(n: int) -> Conversation:
        document, rest = examples(60)[n % 3 * 2_000 :][:16_000], f" and {n}"
        result = (Text(document), Text(rest)) if divided else document + rest
        call, answer = ToolCall("c1", "find", {"name": "x"}), ToolResult("c1", result)
        return Conversation([Message.user("Look it up."), Message("assistant", (call,)), Message("user", (answer,))])

    tool = Tool(name="find", description="Find a document.", parameters={"name": {"type": "string"}})
    return [prompt(n) for n in range(40)], [tool]


@pytest.mark.parametrize("data", [one_string, growing_strings, tool_results, partial(tool_results, divided=True)])
@pytest.mark.filterwarnings("ignore::lm_deluge.errors.PromptCacheWarning")
def test_what_begins_alike_inside_a_text_is_estimated_for_models_that_read_it(provider, data):
    patterns = (None, "system_and_tools", "shared_prefix")
    estimate, _ = bills_beside_estimate(provider, "gpt-4.1-mini", *data(), patterns, concurrency=1)
    assert estimate["system_and_tools"].cold.reads > 30


@pytest.mark.long
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore::lm_deluge.errors.PromptCacheWarning")
def test_every_pattern_at_once_is_billed_as_it_was_estimated(slow_provider, data, model):
    bills_beside_estimate(slow_provider, model, *data(), (None, *PATTERNS), concurrency=225)


@pytest.mark.parametrize("data", DATA)
def test_prefills_are_billed_as_they_were_estimated(slow_provider, data):
    prompts, tools = data()
    cache = PromptCache("system_and_tools", "1h", warm="prefill")
    estimate, _ = bills_beside_estimate(slow_provider, MODELS[0], prompts[:225], tools, [cache], concurrency=225)
    assert slow_provider.calls == 2 * len(prompts[:225]) + 1
    assert estimate[cache].cold.usage.output_tokens == 60 * len(prompts[:225])


def test_prefills_are_not_estimated_where_there_are_none(slow_provider):
    """A forced tool is such a case: the first prompt leads."""
    prompts, tools = with_tools()
    cache = PromptCache("system_and_tools", warm="prefill")
    with client_of(slow_provider, MODELS[0]) as client:
        forced = client.estimate(prompts, tools=tools, tool_choice="required", cache=cache)
        free = client.estimate(prompts, tools=tools, cache=cache)
    assert (forced[cache].cold.reads, free[cache].cold.reads) == (119, 120)


def test_settings_of_one_pattern_are_told_apart():
    prompts, _ = many_shot()
    short, hour, herd = PromptCache(), PromptCache(ttl="1h"), PromptCache(warm=False)
    with LLMClient(MODELS[0], **HIGH) as client:
        estimate = client.estimate(prompts[:50], patterns=[short, hour, herd, "shared_prefix"])
    assert [each.name for each in estimate.forecasts] == [
        "none",
        "system_and_tools",
        "system_and_tools 1h",
        "system_and_tools unwarmed",
        "shared_prefix",
    ]
    assert estimate[None] is estimate["none"] is estimate.forecasts[0]
    assert estimate[short] is estimate["system_and_tools"] is estimate.forecasts[1]
    assert estimate[hour] is estimate["system_and_tools 1h"]
    assert estimate["shared_prefix"].pattern == "shared_prefix"
    assert estimate[short].cold.cost < estimate[hour].cold.cost < estimate[herd].cold.cost
    with pytest.raises(KeyError, match="'automatic' was not asked about; there are none, system_and_tools, "):
        estimate["automatic"]
    with LLMClient(MODELS[0]) as client:
        estimate = client.estimate(prompts[:2], patterns=[hour, PromptCache(ttl="1h", warm=False)])
    with pytest.raises(KeyError, match="asked about more than once"):
        estimate["system_and_tools"]


@pytest.mark.parametrize("model", MODELS[:2])
def test_a_herd_is_estimated_too(provider, model):
    prompts = many_shot()[0][:50]
    cache = PromptCache(warm=False)
    with client_of(provider, model, max_concurrent_requests=50) as client:
        estimate = client.estimate(prompts, cache=cache, output_tokens=60)
        warmed = client.estimate(prompts, cache="system_and_tools", output_tokens=60)
        provider.reset()

        async def main():
            with provider.hold() as gate:
                task = asyncio.create_task(client.process_prompts_async(prompts, cache=cache, show_progress=False))
                await gate.arrived(50)
                gate.open()
                await task

        asyncio.run(main())
    herd = estimate["system_and_tools"]
    assert (herd.cold.writes, herd.unwarmed) == (50, None)
    assert herd.cold.cost == pytest.approx(provider.bill().cost, rel=WITHIN)
    assert warmed["system_and_tools"].unwarmed == herd.cold
    assert warmed["system_and_tools"].cold.writes == 1


def test_what_the_local_cache_has_costs_nothing(provider):
    prompts, _ = many_shot()
    with client_of(provider, MODELS[0], cache=MemoryCache()) as client:
        whole = client.estimate(prompts[:40])
        client.process_prompts_sync(prompts[:10], show_progress=False)
        calls = provider.calls
        rest = client.estimate(prompts[:40])
        assert (whole.hits, rest.hits, rest.prompts) == (0, 10, 40)
        assert rest["shared_prefix"].cold.reads == 29
        assert client.estimate(prompts[:40], cache_mode="refresh").hits == 0
        assert client.estimate(prompts[:40], cache_mode="bypass").hits == 0
        assert provider.calls == calls


def test_samples_and_single_flight_count_as_they_are_asked(provider):
    prompts = many_shot()[0][:5]
    with client_of(provider, MODELS[0]) as client:
        assert client.estimate(prompts, samples=3)[None].cold.usage.total_input_tokens == pytest.approx(
            3 * client.estimate(prompts)[None].cold.usage.total_input_tokens
        )
    with client_of(provider, MODELS[0], single_flight=True) as client:
        twice = client.estimate(prompts * 2)
        assert (twice.prompts, twice.hits) == (10, 5)


def test_slow_limits_let_entries_end():
    """At one prompt a minute, one of four in turn is asked often enough, and one of seven is not."""
    bases = [Conversation.system(f"Part {n}. " + examples(60)) for n in range(7)]
    with LLMClient(MODELS[0], max_requests_per_minute=1, max_tokens_per_minute=10**9) as client:
        for groups, writes in [(4, 4), (7, 14)]:
            prompts = [bases[n % groups].user(f"{n}") for n in range(2 * groups)]
            assert client.estimate(prompts)["system_and_tools"].cold.writes == writes


def test_a_prompt_that_cannot_be_sent_is_counted_and_told(tmp_path):
    missing = Conversation([Message.user("Look.").with_image(str(tmp_path / "gone.png"))])
    with LLMClient(MODELS[0]) as client:
        estimate = client.estimate([missing, "Hello"])
    assert (estimate.prompts, estimate.unusable) == (2, 1)
    assert "gone.png" in estimate.problem


def test_without_prices_patterns_are_still_compared():
    with LLMClient("my-model", base_url="http://localhost:1") as client:
        estimate = client.estimate(["Hello"])
    assert estimate.cost_without_prompt_caching is None
    assert estimate.best.pattern is None
    assert "?" in str(estimate)
    assert str(estimate).splitlines()[0] == "1 of 1 prompts to my-model; best: none (by tokens; no price is known)"


def test_nobody_is_asked_offline():
    with LLMClient(MODELS[0], cache=MemoryCache()) as client:
        estimate = client.estimate(["Hello"] * 3, cache_mode="offline")
    assert (estimate.prompts, estimate.hits, estimate.best.cold.cost) == (3, 0, 0)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_requests_per_minute": 10, "max_tokens_per_minute": 10**9}, "max_requests_per_minute"),
        ({"max_requests_per_minute": 10**9, "max_tokens_per_minute": 40_000}, "max_tokens_per_minute"),
    ],
)
def test_the_limit_that_decides_how_long_it_takes_is_named(limits, name):
    """A minute's worth may start at once, and the rest follows evenly: 40 at 10 a minute take three minutes."""
    prompts = [Conversation.system("word" * 3_990).user(f"{n:40}") for n in range(40)]
    with LLMClient(MODELS[0], **limits) as client:
        estimate = client.estimate(prompts)
        assert client.estimate(prompts[:5]).held_back_by is None
    assert estimate.held_back_by == name
    assert estimate.seconds == pytest.approx(185, abs=2)
    assert str(estimate).splitlines()[-1] == f"at least 3 minutes; {name} holds it back"


def test_it_reads_as_a_table():
    prompts, _ = many_shot()
    with LLMClient(MODELS[0], **HIGH) as client:
        lines = str(client.estimate(prompts[:50], patterns=["shared_prefix", "automatic"])).splitlines()
    assert lines[0] == "50 of 50 prompts to claude-haiku-4-5; best: shared_prefix"
    assert [line.split()[0] for line in lines[1:-1]] == ["pattern", "none", "shared_prefix", "automatic"]
    assert len({len(line) for line in lines[1:-1]}) == 1
    assert lines[-1].startswith("estimated: answers left out; four bytes a token; ")


def test_nothing_is_sent_and_no_key_is_needed(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with LLMClient(MODELS[0], base_url="http://localhost:1") as client:
        assert client.estimate(["Hello"]).prompts == 1


def test_no_prompts_cost_nothing():
    with LLMClient(MODELS[0]) as client:
        estimate = client.estimate([])
    assert estimate.best.cold.cost == 0
    assert estimate.best.cold.hit_ratio == 0


def test_what_has_no_meaning_is_refused():
    with LLMClient(MODELS[:2]) as client, pytest.raises(ConfigError, match="one model"):
        client.estimate(["Hello"])
    with LLMClient(MODELS[0]) as client:
        with pytest.raises(ConfigError, match="output_tokens"):
            client.estimate(["Hello"], output_tokens=-1)
        with pytest.raises(ConfigError, match="no_such"):
            client.estimate(["Hello"], patterns=["no_such"])
        with pytest.raises(TypeError, match="no_such"):
            client.estimate(["Hello"], no_such=1)
