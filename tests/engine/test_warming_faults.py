"""Warm fan-out where things go wrong, or are not what they seem: streams, limits, failures, breakpoints of the user."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from lm_deluge import Conversation, LLMClient, Message, PromptCache, Tool
from lm_deluge.errors import LimitWarning
from lm_deluge.prompt import ProviderBlock, Text
from lm_deluge.testing import Emulator, Fault
from lm_deluge.transport import AsyncioTransport
from lm_deluge.transport import StreamedResponse as Streamed

HIGH = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}
ANTHROPIC, OPENAI = "claude-haiku-4-5", "gpt-6-sol"
BASE = Conversation.system("You solve problems step by step. " * 800)  # 6,600 tokens


def ask(client, prompts, **options):
    return client.process_prompts_sync(prompts, show_progress=False, **options)


def prompts(count, base=BASE):
    return [base.user(f"Question {number}") for number in range(count)]


def writes(emulator):
    return emulator.stats().cache_writes


class Chatty(AsyncioTransport):
    """A gateway that keeps connections open with comments until the provider has begun."""

    def __init__(self, first: bytes) -> None:
        super().__init__()
        self._first = first

    @asynccontextmanager
    async def stream(self, request, *, timeout):
        async def chunks():
            yield self._first
            async with super(Chatty, self).stream(request, timeout=timeout) as response:
                async for chunk in response.chunks:
                    yield chunk

        yield Streamed(status=200, headers={}, chunks=chunks())


@pytest.mark.parametrize("model", [ANTHROPIC, OPENAI])
@pytest.mark.parametrize("first", [b": PROCESSING\n\n", b"\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'])
def test_a_comment_is_not_the_beginning_of_an_answer(model, first):
    with Emulator(latency=0.1) as emulator:
        url = emulator.url if model == ANTHROPIC else emulator.openai_base_url
        client = LLMClient(model, base_url=url, api_key="any", transport=Chatty(first), **HIGH)
        responses = ask(client, prompts(30), cache="system_and_tools")
        client.close()
        assert not any(response.is_error for response in responses)
        assert writes(emulator) == 1


@pytest.mark.parametrize("page", [b"<html>Please wait</html>", b"[]"])
def test_the_page_of_a_proxy_is_no_beginning_either(emulator, make_client, instant_clock, page):
    emulator.script([Fault.raw(200, page)])
    client = make_client(ANTHROPIC, clock=instant_clock)
    responses = ask(client, prompts(30), cache="system_and_tools")
    assert not any(response.is_error for response in responses)
    assert writes(emulator) <= 2


@pytest.mark.parametrize("model", [ANTHROPIC, OPENAI])
@pytest.mark.parametrize("damage", [b"<html>Please wait</html>", b"data: {\n\n", b"event: message_start\n\n", b"data"])
def test_a_stream_that_cannot_be_read_is_asked_for_once_and_then_the_whole_answer(
    make_client, instant_clock, model, damage
):
    """Otherwise every attempt asks a server to stream that cannot, and is paid for."""
    asked = []

    class Broken(AsyncioTransport):
        async def send(self, request, *, timeout):
            asked.append("whole")
            return await super().send(request, timeout=timeout)

        @asynccontextmanager
        async def stream(self, request, *, timeout):
            asked.append("stream")

            async def chunks():
                yield damage

            yield Streamed(status=200, headers={}, chunks=chunks())

    client = make_client(model, transport=Broken(), clock=instant_clock)
    (response, *others) = ask(client, prompts(3), cache="system_and_tools")
    assert not response.is_error, response.error_message
    assert not any(other.is_error for other in others)
    assert asked.count("stream") <= 2  # by the first, and by the next that led
    assert asked.count("whole") == 3


def test_a_server_that_never_streams_costs_one_call_for_each_prompt(make_client):
    """200 prompts with a pattern were 1,000 paid calls and no answer."""
    asked = []

    class Whole(AsyncioTransport):
        @asynccontextmanager
        async def stream(self, request, *, timeout):
            body = msgspec.json.decode(request.body)
            asked.append(body.pop("stream"))
            body.pop("stream_options", None)
            answer = await self.send(msgspec.structs.replace(request, body=msgspec.json.encode(body)), timeout=timeout)

            async def chunks():
                yield answer.body

            yield Streamed(status=answer.status, headers=answer.headers, chunks=chunks())

        async def send(self, request, *, timeout):
            asked.append(False)
            return await super().send(request, timeout=timeout)

    client = make_client(OPENAI, transport=Whole())
    responses = ask(client, prompts(30), cache="system_and_tools")
    assert all(response.completion for response in responses)
    assert True in asked
    assert len(asked) - asked.count(True) == 30


@pytest.mark.parametrize(("failing", "most"), [(1, 2), (3, 4), (7, 8), (15, 16)])
def test_failures_let_more_lead_round_by_round(emulator, make_client, instant_clock, failing, most):
    """Bad rows first: one goes, then two, then four; all at once would pay for every write."""
    client = make_client(ANTHROPIC, clock=instant_clock)
    emulator.script([Fault.error(400)] * failing)
    responses = ask(client, prompts(200), cache="system_and_tools")
    assert sum(response.is_error for response in responses) == failing
    assert writes(emulator) <= most


def test_what_failed_in_one_run_is_forgotten_in_the_next(emulator, make_client):
    client = make_client(ANTHROPIC)
    emulator.script([Fault.error(401)] * 15)
    assert all(response.is_error for response in ask(client, prompts(15), cache="system_and_tools"))
    ask(client, prompts(100), cache="system_and_tools")
    assert writes(emulator) == 1


def own_breakpoint(text):
    return ProviderBlock("anthropic", {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})


@pytest.mark.parametrize("pattern", ["system_and_tools", "last_3_user_messages", "conversation", "tools_only"])
def test_breakpoints_of_the_user_are_waited_for(emulator, make_client, pattern):
    document = own_breakpoint("A long document. " * 2_000)
    asked = [Conversation([Message("user", [document, Text(f"Question {n}")])]) for n in range(40)]
    client = make_client(ANTHROPIC)
    ask(client, asked, cache=pattern)
    read = sum(request.cache.read > 0 for request in emulator.requests)
    assert read == 39
    assert client.last_report.wasted_write_cost == 0


def test_what_many_single_prompts_share_is_found_too(emulator, make_client):
    client = make_client(ANTHROPIC)

    async def main():
        for prompt in prompts(20):
            await client.start(prompt, cache="shared_prefix")

    asyncio.run(main())
    assert [request.cache.read > 0 for request in emulator.requests] == [False, False] + [True] * 18
    assert writes(emulator) == 1


def test_asking_the_same_again_caches_no_tails(emulator, make_client):
    client = make_client(ANTHROPIC)
    for _ in range(3):
        ask(client, prompts(20), cache="shared_prefix")
    assert writes(emulator) == 1
    breakpoints = {str(request.json["messages"]).count("cache_control") for request in emulator.requests}
    assert breakpoints == {0}


def test_duplicates_that_share_a_call_are_one_prompt(emulator, make_client):
    client = make_client(ANTHROPIC, single_flight=True)
    ask(client, [prompt for prompt in prompts(20) for _ in range(5)], cache="shared_prefix")
    assert (emulator.calls, writes(emulator)) == (20, 1)
    assert client.last_report.wasted_write_cost == 0


# Prefixes written without an answer

PREFILL = PromptCache("system_and_tools", warm="prefill")


def prefills(emulator):
    return sum(request.json["max_tokens"] == 0 for request in emulator.requests)


def test_nothing_is_prefilled_for_one_prompt_alone(emulator, make_client):
    client = make_client(ANTHROPIC)
    ask(
        client,
        [Conversation.system(f"{n} " + BASE.messages[0].parts[0].text).user("Go") for n in range(10)],
        cache=PREFILL,
    )
    assert (emulator.calls, prefills(emulator)) == (10, 0)


@pytest.mark.parametrize("status", [429, 529, 500])
def test_a_prefill_that_fails_leaves_the_prompt_to_lead(emulator, make_client, instant_clock, status):
    emulator.script([Fault.error(status)])
    client = make_client(ANTHROPIC, clock=instant_clock)
    responses = ask(client, prompts(30), cache=PREFILL)
    assert not any(response.is_error for response in responses)
    assert writes(emulator) == 1
    assert bool(instant_clock.slept) == (status != 500)


def test_a_prefill_takes_its_share_of_the_limits(make_client, emulator, instant_clock):
    client = make_client(ANTHROPIC, clock=instant_clock, max_requests_per_minute=60)
    ask(client, prompts(60), cache=PREFILL)
    assert emulator.calls == 61
    assert sum(instant_clock.slept) == pytest.approx(1.0, abs=0.1)


# Limits


def test_at_low_limits_prompts_whose_prefix_is_warm_go_first(make_timeline):
    """Thirteen such prompts a minute, and thirty documents: entries have to be read before they end."""
    bases = [Conversation.system(f"Document {n}. " + "Some text. " * 2_900) for n in range(30)]  # 8,000 tokens
    asked = [base.user(f"Question {n}") for base in bases for n in range(6)]
    timeline = make_timeline(latency=0.0)
    client = timeline.client(ANTHROPIC)
    with pytest.warns(LimitWarning, match=r"max_tokens_per_minute. Its default, 100,000, lets about 13 such"):
        responses = timeline.run(client.process_prompts_async(asked, cache="system_and_tools", show_progress=False))
    assert not any(response.is_error for response in responses)
    assert timeline.app.snapshot().cache_writes == 30


def test_nobody_is_told_of_limits_that_were_set(emulator, make_client, instant_clock):
    client = make_client(ANTHROPIC, clock=instant_clock, max_tokens_per_minute=50_000)
    ask(client, prompts(20), cache="system_and_tools")
    assert sum(instant_clock.slept) > 60


# The account


def test_what_a_broken_stream_has_cost_is_on_the_account(emulator, make_client, instant_clock):
    emulator.script([Fault.truncated_stream()])
    client = make_client(ANTHROPIC, clock=instant_clock)
    ask(client, prompts(10), cache="system_and_tools")
    report = client.last_report
    assert report.usage.cache_write_tokens + report.usage.cache_read_tokens > 10 * 6_600
    assert report.cost == pytest.approx(emulator.bill().cost, rel=0.02)


def test_each_prompt_waits_once_on_the_account(emulator, make_client, instant_clock):
    emulator.script([Fault.error(529)] * 5)
    client = make_client(ANTHROPIC, clock=instant_clock)
    ask(client, prompts(50), cache="system_and_tools")
    assert 0 < client.last_report.waited_for_prefix <= 50


def test_a_herd_of_single_prompts_shows_as_lost(emulator, make_client):
    client = make_client(ANTHROPIC)
    cache = PromptCache(warm=False)

    async def main():
        with emulator.hold() as gate:
            tasks = [client.start_nowait(prompt, cache=cache) for prompt in prompts(20)]
            await gate.arrived(20)
            gate.open()
            await client.wait_for_all(tasks)

    asyncio.run(main())
    written = writes(emulator)
    tokens = client.report().usage.cache_write_tokens // written
    assert client.report().wasted_write_cost == pytest.approx((written - 1) * tokens * 1.15e-6, rel=1e-6)


def test_tools_of_synchronous_calls_are_compared(emulator, make_client):
    client = make_client(ANTHROPIC)
    tools = [Tool(name=name, description="Look. " * 3_000) for name in ("first", "second")]
    ask(client, ["Hello"], tools=tools, cache="tools_only")
    with pytest.warns(UserWarning, match="The same tools come in another order"):
        ask(client, ["Hello"], tools=tools[::-1], cache="tools_only")


def test_ends_that_a_whole_batch_wrote_and_nobody_read_are_told(emulator, make_client):
    client = make_client(OPENAI)
    with pytest.warns(
        UserWarning, match=r"gpt-6-sol wrote [\d,]+ tokens of 20 prompts .* pattern 'shared_prefix' caches"
    ):
        ask(client, prompts(20))
    ask(client, [BASE.user(f"Another {n}") for n in range(20)])  # once is enough
