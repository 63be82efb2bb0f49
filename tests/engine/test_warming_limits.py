"""Warm fan-out where limits hold prompts back: who goes first, and that nobody is forgotten."""

import asyncio
import json

import pytest

from lm_deluge import Conversation, PromptCache
from lm_deluge.testing import Answer, Fault

HIGH = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}
CLAUDE = "claude-sonnet-4-5"  # caches from 1,024 tokens on

pytestmark = pytest.mark.filterwarnings("ignore::lm_deluge.errors.PromptCacheWarning")


@pytest.fixture
def timeline(make_timeline):
    return make_timeline(responder=lambda _: Answer(text="Yes.", thinking=""))


def documents(count: int, questions: int) -> list[Conversation]:
    """One document after the other."""
    bases = [Conversation.system(f"Document {n}. " + "Some text. " * 600) for n in range(count)]
    return [base.user(f"Question {n}") for base in bases for n in range(questions)]


def ask(timeline, client, prompts, **options):
    responses = timeline.run(client.process_prompts_async(prompts, show_progress=False, **options))
    assert not any(response.is_error for response in responses)
    return responses


def writes(responses) -> int:
    return sum(response.usage.cache_write_tokens > 0 for response in responses)


def test_a_prompt_beside_a_warm_batch_is_not_left_for_the_end(timeline):
    """Five slots, a batch of 500, and ten seconds after its begin somebody else's question."""
    client = timeline.client(CLAUDE, max_concurrent_requests=5, **HIGH)

    async def main():
        batch = asyncio.ensure_future(
            client.process_prompts_async(documents(5, 100), cache="system_and_tools", show_progress=False)
        )
        await timeline.clock.sleep(12.0)
        began = timeline.clock.monotonic()
        await client.start("Hello")
        waited = timeline.clock.monotonic() - began
        await batch
        return waited, timeline.clock.monotonic()

    waited, whole = timeline.run(main())
    assert whole > 400
    assert waited <= 20


def test_another_document_is_not_left_for_the_end_either(timeline):
    """A minute's worth of turns is short here, so who writes has a turn too."""
    client = timeline.client(CLAUDE, max_concurrent_requests=5, **HIGH)
    other = Conversation.system("Another. " + "Some text. " * 600).user("And here?")

    async def main():
        batch = asyncio.ensure_future(
            client.process_prompts_async(documents(5, 100), cache="system_and_tools", show_progress=False)
        )
        await timeline.clock.sleep(12.0)
        began = timeline.clock.monotonic()
        await client.process_prompts_async([other], cache="system_and_tools", show_progress=False)
        waited = timeline.clock.monotonic() - began
        await batch
        return waited

    assert timeline.run(main()) <= 25


@pytest.mark.parametrize("cache", ["system_and_tools", "conversation", PromptCache(warm="prefill")])
def test_each_document_is_written_once_at_low_limits(timeline, cache):
    """Thirteen requests a minute, so all of it takes longer than an entry lives."""
    client = timeline.client(CLAUDE, max_requests_per_minute=13)
    prompts = [*documents(60, 3)[0::3], *documents(60, 3)[1::3], *documents(60, 3)[2::3]]
    responses = ask(timeline, client, prompts, cache=cache)
    assert timeline.clock.monotonic() > 720
    # With a prefill, all prompts read. The end of each prompt is written as well by "conversation", a few tokens.
    document = 1_600
    written = sum(response.usage.cache_write_tokens > document for response in responses)
    read = sum(response.usage.cache_read_tokens > document for response in responses)
    prefills = timeline.app.stats.calls - len(prompts)
    assert (written + prefills, read) == (60, 180 - written)
    assert prefills == (60 if cache == PromptCache(warm="prefill") else 0)


def test_a_prompt_whose_retry_comes_late_keeps_its_key(timeline):
    """A key is a cache of its own, so a retry with another would read nothing."""
    client = timeline.client("gpt-4.1-mini", **HIGH)
    timeline.app.script.extend([Fault.rate_limit()] * 20)
    ask(timeline, client, documents(1, 60), cache="system_and_tools")
    keys = {json.loads(record.body)["prompt_cache_key"] for record in timeline.app.records}
    assert len(keys) == 4


def test_only_what_others_may_wait_for_is_streamed(timeline):
    """The end of a prompt is written too by this pattern, and nobody waits for that."""
    client = timeline.client(CLAUDE, **HIGH)
    ask(timeline, client, documents(2, 10), cache="conversation")
    assert sum(json.loads(record.body).get("stream", False) for record in timeline.app.records) == 2


def test_samples_of_one_prompt_wait_for_its_end(timeline):
    """The end of a prompt is of use to its other samples."""
    client = timeline.client(CLAUDE, **HIGH)
    responses = ask(timeline, client, documents(1, 1), cache="last_user_message", samples=20)
    assert writes(responses) == 1


def test_a_longer_lifetime_of_a_later_run_is_not_believed_of_what_an_earlier_one_wrote(timeline):
    """The entry was written for five minutes, and a read renews it for as long."""
    client = timeline.client(CLAUDE, **HIGH)
    ask(timeline, client, documents(1, 10), cache="system_and_tools")
    ask(timeline, client, documents(1, 10), cache=PromptCache(ttl="1h"))
    timeline.clock.advance(600.0)
    assert writes(ask(timeline, client, documents(1, 50), cache=PromptCache(ttl="1h"))) == 1
