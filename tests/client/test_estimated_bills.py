"""What a run would cost, told beforehand, against the bill of the emulated provider, which knows nothing of it.

Runs take place on a timeline, where answers take as long as the estimate says.
"""

import json
import random
from functools import partial
from pathlib import Path

import pytest

from lm_deluge import Conversation, Message, PromptCache, Tool
from lm_deluge.prompt import Text, ToolCall, ToolResult
from lm_deluge.prompt_cache import PATTERNS
from lm_deluge.testing import Answer, gsm8k

MODELS = ["claude-haiku-4-5", "gpt-6-sol", "gpt-4.1-mini"]
HIGH = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}
ANSWER = "word" * 60  # 60 tokens, as the emulator counts
WITHIN = 0.005

pytestmark = pytest.mark.filterwarnings("ignore::lm_deluge.errors.PromptCacheWarning")


def examples(count: int) -> str:
    return "\n\n".join(f"{row['question']}\n{row['answer']}" for row in gsm8k("train")[:count])


def many_shot() -> tuple[list[Conversation], list[Tool]]:
    """GSM8K's test questions behind solved ones."""
    base = Conversation.system("Solve it as here.\n\n" + examples(60))
    return [base.user(row["question"]) for row in gsm8k()[:240]], []


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


@pytest.fixture
def timeline(make_timeline):
    return make_timeline(responder=lambda _: Answer(text=ANSWER, thinking=""))


def bills_beside_estimate(timeline, model, prompts, tools, caches, **arguments):
    """Ask with each way of caching, cold and warm, and hold the bills against the estimate. Returns both."""
    paid = {}
    patterns = [cache for cache in caches if cache is not None]
    client = timeline.client(model, **arguments)
    estimate = client.estimate(prompts, tools=tools, output_tokens=60, patterns=patterns)
    for cache in caches:
        client = timeline.client(model, **arguments)  # it knows of nothing warm
        timeline.reset()
        bills = []
        for _ in range(2):
            responses = timeline.run(
                client.process_prompts_async(prompts, tools=tools, cache=cache, show_progress=False)
            )
            assert not any(response.is_error for response in responses), responses[0].error_message
            bills.append(timeline.cost - sum(bills))
        expected = estimate[cache]
        assert [expected.cold.cost, expected.warm.cost] == pytest.approx(bills, rel=WITHIN), cache
        paid[cache] = bills[0]
    return estimate, paid


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
def test_the_provider_bills_what_was_estimated(timeline, data, model):
    """One request at a time."""
    prompts, tools = data()
    prompts = prompts[:: max(1, len(prompts) // 40)]
    caches = (None, *PATTERNS)
    estimate, paid = bills_beside_estimate(timeline, model, prompts, tools, caches, max_concurrent_requests=1, **HIGH)
    assert [each.pattern for each in estimate.forecasts] == [None, *PATTERNS]
    assert paid[estimate.best.pattern] <= min(paid.values()) * (1 + 1e-6)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_sent_together_is_billed_as_it_was_estimated(timeline, data, model):
    """As many at once as the client's default lets."""
    bills_beside_estimate(timeline, model, *data(), (None, *PATTERNS), **HIGH)


@pytest.mark.parametrize("data", [*DATA[:2]])
@pytest.mark.parametrize("model", MODELS)
def test_what_the_default_limits_hold_back_is_billed_as_it_was_estimated(timeline, data, model):
    """Only some ten prompts a minute go out."""
    prompts, tools = data()
    bills_beside_estimate(timeline, model, prompts[::8], tools, ("system_and_tools", "shared_prefix", "conversation"))


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gpt-6-sol"])
@pytest.mark.parametrize("order", ["one document after the other", "in turn"])
@pytest.mark.parametrize("at_once", [10, 225])
def test_many_documents_at_low_limits_are_billed_as_they_were_estimated(timeline, model, order, at_once):
    """Seventy documents at thirteen prompts a minute: what is asked in turn has ended when its turn comes again."""
    bases = [Conversation.system(f"Document {n}. " + "Some text. " * 600) for n in range(70)]
    prompts = [base.user(f"Question {n}") for base in bases for n in range(3)]
    if order == "in turn":
        prompts = [prompts[3 * n + m] for m in range(3) for n in range(70)]
    caches = ["system_and_tools", "conversation"]
    arguments = {"max_requests_per_minute": 13, "max_concurrent_requests": at_once}
    estimate, _ = bills_beside_estimate(timeline, model, prompts, [], caches, **arguments)
    if model.startswith("claude") and order == "in turn":
        # Those that wait for the limits are taken in an order that keeps entries alive, as far as there are others.
        writes = estimate["system_and_tools"].cold.writes
        assert writes == 70 if at_once > 200 else writes > 180


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
@pytest.mark.parametrize("concurrency", [1, 225])
def test_what_begins_alike_inside_a_text_is_estimated_for_models_that_read_it(timeline, data, concurrency):
    caches = (None, "system_and_tools", "shared_prefix")
    estimate, _ = bills_beside_estimate(
        timeline, "gpt-4.1-mini", *data(), caches, max_concurrent_requests=concurrency, **HIGH
    )
    assert estimate["system_and_tools"].warm.reads > (30 if concurrency == 1 else 0)


@pytest.mark.parametrize("limits", [HIGH, {}])
@pytest.mark.parametrize("data", DATA)
def test_prefills_are_billed_as_they_were_estimated(timeline, data, limits):
    prompts, tools = data()
    prompts = prompts[:225] if limits else prompts[:40]
    cache = PromptCache("system_and_tools", "1h", warm="prefill")
    estimate, _ = bills_beside_estimate(timeline, MODELS[0], prompts, tools, [cache], **limits)
    assert timeline.app.stats.calls == 2 * len(prompts) + 1
    assert estimate[cache].cold.usage.output_tokens == 60 * len(prompts)


def test_prefills_are_not_estimated_where_there_are_none(timeline):
    """A forced tool is such a case: the first prompt leads."""
    prompts, tools = with_tools()
    cache = PromptCache("system_and_tools", warm="prefill")
    client = timeline.client(MODELS[0], **HIGH)
    forced = client.estimate(prompts, tools=tools, tool_choice="required", cache=cache)
    free = client.estimate(prompts, tools=tools, cache=cache)
    assert (forced[cache].cold.reads, free[cache].cold.reads) == (119, 120)


@pytest.mark.parametrize("model", MODELS[:2])
def test_a_herd_is_estimated_too(timeline, model):
    prompts = many_shot()[0][:50]
    herd = PromptCache(warm=False)
    estimate, _ = bills_beside_estimate(timeline, model, prompts, [], [herd, "system_and_tools"], **HIGH)
    assert (estimate[herd].cold.writes, estimate[herd].unwarmed) == (50, None)
    assert estimate["system_and_tools"].unwarmed == estimate[herd].cold
    assert estimate["system_and_tools"].cold.writes == 1


def random_run(rng):
    """Groups of prompts behind documents, with or without something in front of these, in some order."""
    groups, questions = rng.choice([1, 2, 5, 20, 40]), rng.choice([1, 2, 5, 12])
    document = "Some text. " * rng.choice([100, 450, 650, 1_800])
    has_front = rng.random() < 0.5

    def prompt(group, number):
        text = f"Document {group}. {document}"
        base = Conversation.system("Shared text. " * 500).user(text).ai("Yes") if has_front else None
        base = Conversation.system(text) if base is None else base
        return (base.user("More? " * 30).ai("No") if number % 3 == 2 else base).user(f"Question {number}")

    prompts = [prompt(group, number) for group in range(groups) for number in range(questions)]
    if rng.random() < 0.6:
        rng.shuffle(prompts)
    arguments = {
        "max_requests_per_minute": rng.choice([7, 13, 29, 110, 10**7]),
        "max_tokens_per_minute": rng.choice([20_000, 77_000, 10**6, 10**10]),
        "max_concurrent_requests": rng.choice([1, 3, 20, 225]),
    }
    if rng.random() < 0.3:
        arguments["max_new_tokens"] = rng.choice([100, 2_000])
    cache = PromptCache(rng.choice(PATTERNS), rng.choice([None, "1h"]), warm=rng.choice([True, "prefill"]))
    return prompts, cache, arguments


@pytest.mark.long
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gpt-6-sol"])
def test_random_runs_are_billed_as_they_were_estimated(make_timeline, model):
    """To the cent, but for a few in which an entry ends in the very second in which it is asked for."""
    rng = random.Random(1)
    off = 0
    for _ in range(100):
        prompts, cache, arguments = random_run(rng)
        timeline = make_timeline(responder=lambda _: Answer(text=ANSWER, thinking=""))
        client = timeline.client(model, **arguments)
        expected = client.estimate(prompts, output_tokens=60, cache=cache)[cache]
        timeline.run(client.process_prompts_async(prompts, cache=cache, show_progress=False))
        off += expected.cold.cost != pytest.approx(timeline.cost, rel=WITHIN)
        assert expected.cold.cost == pytest.approx(timeline.cost, rel=0.1)
    assert off <= 5
