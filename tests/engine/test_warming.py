"""Warm fan-out: what prompts share is written to the provider's cache once, and read by all others."""

import asyncio
from collections import Counter

import msgspec
import pytest

from lm_deluge import Conversation, LLMClient, Message, PromptCache, Tool
from lm_deluge.cache import MemoryCache
from lm_deluge.testing import Answer, Emulator, FakeClock, Fault, gsm8k
from lm_deluge.testing.bill import make_bill

HIGH = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}
ANTHROPIC, OPENAI = "claude-haiku-4-5", "gpt-6-sol"


def many_shot(seed=0, shots=100):
    rows = gsm8k("train")[seed : seed + shots] * 2
    return Conversation.system(
        "Solve it as here.\n\n" + "\n\n".join(f"{row['question']}\n{row['answer']}" for row in rows)
    )


def ask(client, prompts, **options):
    return client.process_prompts_sync(prompts, show_progress=False, **options)


def outcomes(emulator):
    return [request.cache for request in emulator.requests if request.cache is not None]


def writes(emulator):
    """How many requests wrote to the provider's cache."""
    return sum(bool(cache.write_5m or cache.write_1h) for cache in outcomes(emulator))


def reads(emulator):
    return sum(bool(cache.read) for cache in outcomes(emulator))


@pytest.mark.parametrize("pattern", ["system_and_tools", "shared_prefix"])
@pytest.mark.parametrize("model", [ANTHROPIC, OPENAI])
def test_one_prompt_writes_and_all_others_read(emulator, make_client, model, pattern):
    base = many_shot()
    client = make_client(model)
    responses = ask(client, [base.user(row["question"]) for row in gsm8k()[:300]], cache=pattern)
    assert not any(response.is_error for response in responses)
    assert (writes(emulator), reads(emulator)) == (1, 299)
    report = client.last_report
    assert 0 < report.waited_for_prefix <= 299
    assert report.cost < 0.5 * report.cost_without_prompt_caching


def test_without_warming_each_prompt_that_is_under_way_writes(emulator, make_client):
    base = many_shot()
    client = make_client(ANTHROPIC, max_concurrent_requests=20)

    async def main():
        with emulator.hold() as gate:
            task = asyncio.create_task(
                client.process_prompts_async(
                    [base.user(f"{n}") for n in range(20)],
                    cache=PromptCache(pattern="system_and_tools", warm=False),
                    show_progress=False,
                )
            )
            await gate.arrived(20)
            gate.open()
            await task

    asyncio.run(main())
    assert writes(emulator) == 20


def test_groups_warm_side_by_side(emulator, make_client):
    bases = [many_shot(seed) for seed in range(8)]
    client = make_client(ANTHROPIC)
    prompts = [bases[n % 8].user(f"Question {n}") for n in range(240)]

    async def main():
        with emulator.hold() as gate:
            task = asyncio.create_task(
                client.process_prompts_async(prompts, cache="system_and_tools", show_progress=False)
            )
            await gate.arrived(8)
            assert gate.held == 8
            gate.open()
            return await task

    responses = asyncio.run(main())
    assert [response.id for response in responses] == list(range(240))
    assert (writes(emulator), reads(emulator)) == (8, 232)


def test_prompts_that_share_nothing_that_can_be_cached_do_not_wait(emulator, make_client):
    client = make_client(ANTHROPIC)
    base = Conversation.system("Too short to be cached.")

    async def main():
        with emulator.hold() as gate:
            task = asyncio.create_task(
                client.process_prompts_async(
                    [base.user(f"{n}") for n in range(20)], cache="system_and_tools", show_progress=False
                )
            )
            await gate.arrived(20)
            gate.open()
            await task

    asyncio.run(main())
    assert client.last_report.waited_for_prefix == 0


def test_followers_go_as_soon_as_the_answer_has_begun(make_client):
    """The leader streams, so nobody waits for the end of a long answer."""
    with Emulator(responder=lambda request: Answer(text="word " * 2_000)) as emulator:
        client = make_client(ANTHROPIC, base_url=emulator.url, api_key="any")
        base = many_shot()
        responses = ask(client, [base.user(f"{n}") for n in range(10)], cache="system_and_tools")
        streamed = [bool(request.json.get("stream")) for request in emulator.requests]
    assert streamed == [True] + 9 * [False]
    texts = {response.completion for response in responses}
    assert texts == {"word " * 2_000} or len(texts) == 1
    leader, follower = responses[0], responses[1]
    assert set(leader.raw_response) == set(follower.raw_response)
    assert leader.finish_reason == follower.finish_reason
    assert leader.usage.output_tokens == follower.usage.output_tokens
    assert leader.usage.has_cache_write
    assert follower.usage.has_cache_hit


@pytest.mark.parametrize("fault", [Fault.error(400), Fault.error(529)])
def test_when_the_first_fails_another_leads(emulator, make_client, instant_clock, fault):
    emulator.script([fault])
    client = make_client(ANTHROPIC, clock=instant_clock)
    base = many_shot()
    responses = ask(client, [base.user(f"{n}") for n in range(30)], cache="system_and_tools")
    assert sum(response.is_error for response in responses) == (fault.status == 400)
    assert writes(emulator) <= 2  # after a failure two may lead


def test_when_the_first_is_cancelled_another_leads(emulator, make_client):
    client = make_client(ANTHROPIC)
    base = many_shot()

    async def main():
        with emulator.hold() as gate:
            first = asyncio.create_task(client.start(base.user("first"), cache="system_and_tools"))
            await gate.arrived(1)
            others = [asyncio.create_task(client.start(base.user(f"{n}"), cache="system_and_tools")) for n in range(5)]
            for _ in range(100):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await gate.arrived(1)
            gate.open()
            return await asyncio.gather(*others)

    assert not any(response.is_error for response in asyncio.run(main()))


def test_what_is_warm_stays_so_for_the_next_run(emulator, make_client):
    client = make_client(ANTHROPIC)
    base = many_shot()
    ask(client, [base.user("a"), base.user("b")], cache="system_and_tools")
    ask(client, [base.user(f"{n}") for n in range(50)], cache="system_and_tools")
    assert client.last_report.waited_for_prefix == 0
    assert writes(emulator) == 1


def test_hits_take_no_part_and_the_rest_still_warms_once(emulator, make_client):
    client = make_client(ANTHROPIC, cache=MemoryCache())
    base = many_shot()
    prompts = [base.user(f"{n}") for n in range(60)]
    ask(client, prompts[:30:3])
    other = make_client(ANTHROPIC, cache=client.cache)
    before = emulator.calls
    ask(other, prompts, cache="system_and_tools")
    assert other.last_report.hits == 10
    assert emulator.calls - before == 50
    assert writes(emulator) == 1


def test_single_flight_and_warming_go_together(emulator, make_client):
    client = make_client(ANTHROPIC, cache=MemoryCache(), single_flight=True)
    base = many_shot()
    ask(client, [base.user(f"{n % 10}") for n in range(100)], cache="system_and_tools")
    assert emulator.calls == 10
    assert writes(emulator) == 1


def test_a_run_that_outlives_the_entry_warms_anew():
    clock = FakeClock()
    with Emulator(clock=clock) as emulator:
        client = LLMClient(ANTHROPIC, base_url=emulator.url, api_key="any", clock=clock, **HIGH)
        base = many_shot()

        async def main():
            for part in range(4):
                await client.process_prompts_async(
                    [base.user(f"{part} {n}") for n in range(25)], cache="system_and_tools", show_progress=False
                )
                clock.advance(4 * 60 if part != 2 else 6 * 60)  # reads keep it alive, but not for six minutes

        asyncio.run(main())
        client.close()
        assert (writes(emulator), reads(emulator)) == (2, 98)


def test_an_agent_loop_reads_each_turn_what_the_last_one_wrote(emulator, make_client):
    """30 turns; one of them brings 25 results at once, more than the look-back window."""
    client = make_client(ANTHROPIC)
    tool = Tool(name="look", description="Look something up. " * 300, parameters={"q": {"type": "string"}})
    talk = Conversation.system("You look things up. " * 1_500).user("Begin.")

    async def main():
        nonlocal talk
        for turn in range(30):
            response = await client.start(talk, tools=[tool], cache="conversation")
            assert not response.is_error, response.error_message
            calls = 25 if turn == 12 else 1
            message = Message.ai(f"Turn {turn}.")
            for call in range(calls):
                message = message.with_tool_call(f"c{turn}_{call}", "look", {"q": f"{turn} {call}"})
            talk = talk.add(message)
            for call in range(calls):
                talk = talk.with_tool_result(f"c{turn}_{call}", f"Result {turn} {call}. " * 30)

    asyncio.run(main())
    assert reads(emulator) == 29
    uncached = [request.cache.uncached for request in emulator.requests]
    assert max(uncached) < 50


def test_a_prefix_can_be_written_without_an_answer(emulator, make_client):
    base = many_shot()
    client = make_client(ANTHROPIC)
    responses = ask(
        client,
        [base.user(f"{n}") for n in range(30)],
        cache=PromptCache(pattern="system_and_tools", warm="prefill"),
    )
    assert emulator.calls == client.last_report.calls == 31
    assert emulator.requests[0].json["max_tokens"] == 0
    assert (writes(emulator), reads(emulator)) == (1, 30)
    assert all(response.cache_hit for response in responses)
    paid = sum(response.cost for response in responses)
    assert client.last_report.cost > paid  # the write is on the account, though on no answer


def test_where_there_is_no_such_request_a_prompt_leads(emulator, make_client):
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    base = many_shot()
    responses = ask(
        make_client(ANTHROPIC),
        [base.user(f"{n}") for n in range(10)],
        cache=PromptCache(pattern="system_and_tools", warm="prefill"),
        output_schema=schema,
    )
    assert not any(response.is_error for response in responses)
    assert emulator.calls == 10
    assert writes(emulator) == 1


# Whole jobs, and their bills beside the least that the provider's rules allow

PREFIX_TOKENS = 20_000


def prefix_of(tokens, *, start=""):
    text = start + "\n\n".join(f"{row['question']}\n{row['answer']}" for row in gsm8k("train") * 2)
    return Conversation.system(text.encode("ascii", "replace")[: tokens * 4].decode("ascii"))


def least(emulator, model, *, prefix, groups=1):
    """What the same answers cost if each prefix is written once and read by all others, and the rest is plain input."""
    outcomes = [(request.cache, request.charge) for request in emulator.requests]
    written, charges = 0, Counter()
    for cache, charge in outcomes:
        whole = cache.uncached + cache.read + cache.write_5m + cache.write_1h
        writes = written < groups
        written += writes
        charges[
            msgspec.structs.replace(
                charge,
                uncached=whole - prefix,
                read=0 if writes else prefix,
                write_5m=prefix if writes else 0,
                write_1h=0,
            )
        ] += 1
    return make_bill(charges).cost


@pytest.mark.parametrize("pattern", ["system_and_tools", "shared_prefix"])
@pytest.mark.parametrize(("model", "prefix"), [(ANTHROPIC, PREFIX_TOKENS), (OPENAI, PREFIX_TOKENS + 1)])
def test_many_shot_gsm8k_costs_the_least_possible(emulator, make_client, model, prefix, pattern):
    base = prefix_of(PREFIX_TOKENS)
    client = make_client(model, max_concurrent_requests=225)
    responses = ask(client, [base.user(row["question"]) for row in gsm8k()], cache=pattern)
    assert not any(response.is_error for response in responses)
    assert (len(responses), writes(emulator), reads(emulator)) == (1_319, 1, 1_318)
    paid = emulator.bill().cost
    assert paid == pytest.approx(least(emulator, model, prefix=prefix), rel=0.02)
    report = client.last_report
    assert report.cost == pytest.approx(paid, rel=1e-6)
    assert report.wasted_write_cost == 0
    assert report.prompt_cache_hit_ratio > 0.98


@pytest.mark.parametrize(("model", "prefix"), [(ANTHROPIC, 6_000), (OPENAI, 6_001)])
def test_eight_interleaved_prefixes_cost_the_least_possible(emulator, make_client, model, prefix):
    bases = [prefix_of(6_000, start=f"Version {n}. ") for n in range(8)]
    client = make_client(model)
    rows = gsm8k()[:400]
    ask(client, [bases[n % 8].user(row["question"]) for n, row in enumerate(rows)], cache="shared_prefix")
    assert (writes(emulator), reads(emulator)) == (8, 392)
    assert emulator.bill().cost == pytest.approx(least(emulator, model, prefix=prefix, groups=8), rel=0.02)
    assert client.last_report.wasted_write_cost == 0


def run_in_parts(client, clock, base, gaps):
    """One run whose prompts come in parts of 25, with so many seconds between them."""
    answered = 0

    async def main():
        nonlocal answered
        done = asyncio.Event()

        async def prompts():
            for part, gap in enumerate([*gaps, 0]):
                for number in range(25):
                    yield base.user(f"{part} {number}")
                done.clear()
                while answered < 25 * (part + 1):
                    await done.wait()
                    done.clear()
                clock.advance(gap)

        async for response in client.process_prompts_iter(prompts(), cache="system_and_tools", show_progress=False):
            assert not response.is_error, response.error_message
            answered += 1
            done.set()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("gaps", "written"),
    [
        ([240, 240, 240], 1),  # every read keeps the entry alive
        ([240, 360, 240], 2),  # it has ended, and one prompt writes it anew
        ([280, 280, 280], 1),  # shortly before its end one renews it
        ([301, 301, 301], 4),
    ],
)
def test_one_run_that_outlives_the_entry(gaps, written):
    clock = FakeClock()
    with Emulator(clock=clock) as emulator:
        client = LLMClient(ANTHROPIC, base_url=emulator.url, api_key="any", clock=clock, **HIGH)
        run_in_parts(client, clock, prefix_of(6_000), gaps)
        client.close()
        assert (writes(emulator), reads(emulator)) == (written, 100 - written)
        assert client.last_report.wasted_write_cost == 0
        ratio = (100 - written) * 6_000 / sum(each.uncached + each.read + each.write_5m for each in outcomes(emulator))
        assert client.last_report.prompt_cache_hit_ratio == pytest.approx(ratio)
