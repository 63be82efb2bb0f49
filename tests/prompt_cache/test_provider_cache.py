"""Planner, renderers and the emulator's cache agree on what is read and written, request by request.

The emulator's rules were written from the providers' guides, apart from the planner's. Requests go through the real
renderers into its caches, without HTTP; its token counts are what ``predict`` is given to count with.
"""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, File, Image, Message, Text, Thinking, ToolCall, ToolResult
from lm_deluge.prompt_cache import PATTERNS, Block, CachePlan, Planner, PromptCache
from lm_deluge.providers import build
from lm_deluge.request import Breakpoint, Request
from lm_deluge.testing import anthropic_messages, openai_chat
from lm_deluge.testing.anthropic_messages import cache as anthropic_cache
from lm_deluge.testing.anthropic_messages.prompt import positions
from lm_deluge.testing.openai_chat import cache as openai_cache
from lm_deluge.testing.openai_chat.prompt import pieces
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

from .predictions import predict


class Anthropic:
    """The emulated Messages API, as far as its cache goes."""

    per_message = 0

    def __init__(self):
        self.cache = anthropic_cache.PromptCache()

    def read(self, body: bytes):
        request = anthropic_messages._messages.decode(body)
        return request, positions(request, [anthropic_messages._tool(*each) for each in enumerate(request.tools)])

    def send(self, body: bytes, now: float):
        return self.cache.look_up(*self.read(body), credential="key", now=now)

    def tokens_of(self, body: bytes, *, tools: bool) -> int:
        level = "tools" if tools else "messages"
        return sum(each.tokens for each in self.read(body)[1] if each.level == level)


class OpenAI:
    """The emulated Chat Completions API, as far as its cache goes."""

    per_message = 1

    def __init__(self):
        self.cache = openai_cache.PromptCache()

    def send(self, body: bytes, now: float):
        return self.cache.look_up(openai_chat._decoder.decode(body), credential="key", now=now)

    def tokens_of(self, body: bytes, *, tools: bool) -> int:
        first, *others = pieces(openai_chat._decoder.decode(body))
        return first.tokens if tools else sum(each.tokens for each in others) - 1


def counter(provider, model, tools):
    """Tokens of a block, as the emulator counts them."""

    def render(conversation, tools=()):
        return build(Request(conversation=conversation, model=model, tools=tools), credential=None).body

    def count(block: Block) -> int:
        if isinstance(block.value, Tool):
            # Chat Completions reads all tools as one text, which is counted with the last of them here.
            whole = isinstance(provider, OpenAI)
            mine = () if whole and block.value is not tools[-1] else tools if whole else (block.value,)
            return provider.tokens_of(render(Conversation.user("x"), mine), tools=True) if mine else 0
        role = "user" if block.role == "system" else block.role
        return provider.tokens_of(render(Conversation([Message(role, (block.value,))])), tools=False)

    return count


def compare(model, pattern, prompts, times, tools=(), ttl=None, plans=None):
    """The outcome of each request at the emulator, after a check that it was predicted."""
    provider = Anthropic() if model.service.wire == "anthropic" else OpenAI()
    planner = Planner(PromptCache(pattern=pattern, ttl=ttl), model, tools)
    planner.learn(prompts)
    plans = [planner.plan(each) for each in prompts] if plans is None else plans
    predicted = predict(
        zip(prompts, plans, strict=True),
        model,
        tools,
        count=counter(provider, model, tools),
        tokens_per_message=provider.per_message,
        started=times,
    )
    outcomes = []
    for prompt, plan, now in zip(prompts, plans, times, strict=True):
        fields = {name: value for name, value in msgspec.structs.asdict(plan).items() if name != "prefixes"}
        request = Request(conversation=prompt, model=model, tools=tools, **fields)
        lookup = provider.send(build(request, credential=None).body, now)
        provider.cache.publish(lookup)
        outcomes.append(lookup.outcome)
    assert predicted == [
        Usage(
            input_tokens=each.uncached,
            cache_read_tokens=each.read,
            cache_write_tokens=each.write,
            cache_write_1h_tokens=each.write_1h,
        )
        for each in outcomes
    ]
    return outcomes


MODELS = [
    resolve(name, environ={}) for name in ("claude-sonnet-4-5", "claude-opus-5-5", "claude-haiku-4-5", "gpt-6.1-sol")
]
CLAUDE, GPT = MODELS[0], MODELS[-1]


def words(name: str, tokens: int) -> str:
    return f"{name:<4}" * tokens


long_texts = st.builds(words, st.sampled_from("ab"), st.sampled_from([30, 600, 1_100, 2_500, 5_000]))
some_texts = long_texts | st.sampled_from(["Hi", "Yes.", "é" * 50]) | st.integers(0, 9).map(str)
text_parts = some_texts.map(Text)
pictures = st.sampled_from([Image(data=b"\x89PNG\r\n\x1a\n" + end, media_type="image/png") for end in (b"1", b"2")])
pdfs = st.just(File(data=b"%PDF-1.7", media_type="application/pdf", filename="a.pdf"))
calls = st.builds(ToolCall, st.sampled_from(["c1", "c2"]), st.just("f"), st.just({"city": "Rome"}))
results = st.builds(ToolResult, st.sampled_from(["c1", "c2"]), some_texts)


def message(role, parts, **sizes):
    return st.lists(parts, min_size=1, **sizes).map(lambda found: Message(role, found))


user_messages = message("user", text_parts | text_parts | pictures | pdfs, max_size=3)
turns = st.tuples(message("assistant", text_parts, max_size=2), user_messages) | st.tuples(
    message("assistant", calls, max_size=25), message("tool", results, max_size=25)
)


@st.composite
def conversations(draw, wire):
    found = list(draw(st.lists(message("system", text_parts, max_size=2), max_size=1)))
    found.append(draw(user_messages))
    for said, given_back in draw(st.lists(turns, max_size=3)):
        if wire == "anthropic" and draw(st.booleans()):
            said = Message("assistant", (Thinking("hm", "sig"), *said.parts))
        found += [said, given_back]
    return Conversation(found)


@st.composite
def batches(draw, wire):
    """Prompts that begin alike: conversations, cut anywhere and ended in another way, and asked again."""
    base = draw(st.lists(conversations(wire), min_size=1, max_size=3))
    prompts = []
    for _ in range(draw(st.integers(1, 8))):
        chosen = draw(st.sampled_from(base))
        cut = draw(st.integers(1, len(chosen.messages)))
        tail = draw(st.lists(user_messages, max_size=1))
        prompts.append(Conversation([*chosen.messages[:cut], *tail]))
    return [each for each in prompts if any(message.role != "system" for message in each.messages)] or base


tools = st.sampled_from(
    [
        (),
        (Tool(name="f", parameters={"city": {"type": "string"}}),),
        (Tool(name="f"), Tool(name="g", description=words("t", 1_500))),
    ]
)
steps = st.sampled_from([0.0, 1.0, 200.0, 299.0, 300.0, 1_000.0, 1_799.0, 1_800.0, 3_600.0])


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(MODELS), st.sampled_from(PATTERNS), tools, st.sampled_from([None, "5m", "1h"]))
def test_what_is_predicted_happens(data, model, pattern, tools, ttl):
    prompts = data.draw(batches(model.service.wire))
    gaps = data.draw(st.lists(steps, min_size=len(prompts), max_size=len(prompts)))
    compare(model, pattern, prompts, list(itertools.accumulate(gaps)), tools, ttl)


@pytest.mark.long
@settings(deadline=None, max_examples=5_000)
@given(st.data(), st.sampled_from(MODELS), st.sampled_from(PATTERNS), tools, st.sampled_from([None, "5m", "1h"]))
def test_what_is_predicted_happens_long(data, model, pattern, tools, ttl):
    prompts = data.draw(batches(model.service.wire))
    gaps = data.draw(st.lists(steps, min_size=len(prompts), max_size=len(prompts)))
    compare(model, pattern, prompts, list(itertools.accumulate(gaps)), tools, ttl)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(MODELS))
def test_breakpoints_of_any_place_are_predicted_too(data, model):
    """Lifetimes fall along the prompt, as the API demands; everything else is free."""
    prompts = data.draw(batches(model.service.wire))
    plans = []
    for prompt in prompts:
        places = [(at, part) for at, each in enumerate(prompt.messages) for part in range(len(each.parts))]
        chosen = sorted(data.draw(st.lists(st.sampled_from(places), max_size=3, unique=True)))
        chosen.sort(key=lambda place: prompt.messages[place[0]].role != "system")
        hours = data.draw(st.integers(0, 3))
        breakpoints = [Breakpoint("messages", *place, "1h" if at < hours else None) for at, place in enumerate(chosen)]
        plans.append(
            CachePlan(breakpoints=tuple(breakpoints), cache_tail=data.draw(st.sampled_from([None, True, False])))
        )
    compare(model, "system_and_tools", prompts, [0.0] * len(prompts), plans=plans)


@pytest.mark.parametrize("run", [False, True])
@pytest.mark.parametrize("between", [17, 18, 19, 20, 21])
@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_how_far_back_a_read_looks(model, between, run):
    """So many blocks between two breakpoints: with theirs two more positions, or three for a run of any length."""
    first = Conversation([Message("user", (Text(words("a", 2_000)),))])
    if run:
        calls = [ToolCall(f"c{number}", "f") for number in range(between)]
        results = [ToolResult(call.id, "ok") for call in calls]
        second = first.add(Message("assistant", calls)).add(Message("tool", results)).user("end")
    else:
        second = first.add(Message("assistant", [Text(str(number)) for number in range(between)])).user("end")
    breakpoints = [Breakpoint("messages", 0)], [Breakpoint("messages", len(second.messages) - 1)]
    plans = [CachePlan(breakpoints=tuple(each), cache_tail=False) for each in breakpoints]
    _, outcome = compare(model, "conversation", [first, second], [0.0, 1.0], plans=plans)
    assert (outcome.read > 0) == (model is CLAUDE and (run or between <= 18))


@pytest.mark.parametrize(("more", "reads"), [(0, True), (1, True), (20, True), (21, False)])
def test_how_many_ends_of_messages_are_read(more, reads):
    first = Conversation.user(words("a", 2_000))
    second = Conversation([*first.messages, *(Message.user(str(number)) for number in range(more))])
    plans = [CachePlan(cache_tail=True)] * 2
    _, outcome = compare(GPT, "conversation", [first, second], [0.0, 1.0], plans=plans)
    assert (outcome.read > 0) == reads


def test_breakpoints_beyond_what_one_request_writes_are_dropped_oldest_first():
    whole = Conversation([Message("user", [Text(words(name, 2_000)) for name in "abcd"])]).user("end")
    begun = Conversation([Message("user", [Text(words("a", 2_000)), Text("x")])])
    four = CachePlan(breakpoints=tuple(Breakpoint("messages", 0, part) for part in range(4)), cache_tail=True)
    one = CachePlan(breakpoints=four.breakpoints[:1])
    _, with_tail = compare(GPT, "conversation", [whole, begun], [0.0, 1.0], plans=[four, one])
    without = CachePlan(breakpoints=four.breakpoints)
    _, without_tail = compare(GPT, "conversation", [whole, begun], [0.0, 1.0], plans=[without, one])
    assert (with_tail.read, without_tail.read) == (0, 2_001)


# Figures that can be checked by hand


def test_a_shared_prefix_is_written_once_and_read_by_all_others():
    prompts = [
        Conversation.user(None).add(Message("user", (Text(words("a", 5_000)), Text(f"q{n:02} ")))) for n in range(20)
    ]
    prompts = [Conversation(each.messages[1:]) for each in prompts]
    for model, per_message in ((CLAUDE, 0), (GPT, 1)):
        outcomes = compare(model, "shared_prefix", prompts, [0.0] * 20)
        whole = 5_000 + per_message
        assert [(each.write, each.read, each.uncached) for each in outcomes] == [(whole, 0, 1), *[(0, whole, 1)] * 19]


def test_a_read_renews_the_shorter_prefixes_that_are_cached():
    system = Conversation.system(words("s", 2_000))
    prompts = [system.user(words("a", 2_000)), system.user(words("a", 2_000)), system.user(words("b", 2_000))]
    last = compare(CLAUDE, "conversation", prompts, [0.0, 200.0, 400.0])[-1]
    assert (last.read, last.write) == (2_000, 2_000)


def test_an_agents_loop_reads_what_the_last_turn_wrote():
    """Thirty turns, twenty-five parallel calls in one of them: all but what is new is read."""
    tools = (Tool(name="f"),)
    conversation = Conversation.system(words("s", 2_000)).user("Go")
    prompts = []
    for turn in range(30):
        prompts.append(conversation)
        parallel = 25 if turn == 12 else 1
        ids = [f"c{turn}_{number}" for number in range(parallel)]
        conversation = conversation.add(Message("assistant", [ToolCall(id, "f", {"x": 1}) for id in ids]))
        conversation = conversation.add(Message("tool", [ToolResult(id, words("r", 100)) for id in ids]))
    for model in (CLAUDE, GPT):
        outcomes = compare(model, "conversation", prompts, [10.0 * turn for turn in range(30)], tools)
        for before, after in itertools.pairwise(outcomes):
            assert after.read == before.read + before.write
        assert sum(each.uncached for each in outcomes) == 0


def test_the_wrong_pattern_costs_more_and_it_is_said_how_much():
    prompts = [Conversation.system(words("s", 2_000)).user(words(f"{number}", 500)) for number in range(10)]
    right, wrong = (
        sum(each.write for each in compare(CLAUDE, pattern, prompts, [0.0] * 10))
        for pattern in ("system_and_tools", "last_user_message")
    )
    assert (right, wrong) == (2_000, 25_000)


def test_requests_that_are_under_way_together_read_nothing_of_each_other():
    prompts = [Conversation.system(words("s", 2_000)).user(f"q{number:02} ") for number in range(10)]
    planner = Planner(PromptCache(), CLAUDE)
    requests = [(each, planner.plan(each)) for each in prompts]
    for at_once in (1, 4, 100):
        usages = predict(requests, CLAUDE, at_once=at_once)
        written = [number for number, usage in enumerate(usages) if usage.cache_write_tokens]
        assert written == list(range(min(at_once, 10)))


def test_where_nothing_is_promised_whole_steps_are_read():
    model = resolve("gpt-4.1", environ={})
    prompts = [Conversation.system(words("s", 2_000)).user(f"q{number:02} ") for number in range(3)]
    planner = Planner(PromptCache(), model)
    requests = [(each, planner.plan(each)) for each in prompts]
    assert [usage.cache_read_tokens for usage in predict(requests, model)] == [0, 1_920, 1_920]
    other = resolve("groq/llama-3.3-70b", environ={})
    planner = Planner(PromptCache(), other)
    usages = predict([(each, planner.plan(each)) for each in prompts], other)
    assert [usage.total_input_tokens for usage in usages] == [usage.input_tokens for usage in usages] == [2_001] * 3
