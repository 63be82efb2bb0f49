"""Samples of prompts that the client knows from before, with ``shared_prefix``: one writes the prompt, others read."""

import pytest

from lm_deluge import Conversation
from lm_deluge.cache import MemoryCache

OWN = [Conversation.user(f"{number} " + "long text " * 3_000) for number in range(5)]


def ask(client, **options):
    return client.process_prompts_sync(OWN, cache="shared_prefix", show_progress=False, **options)


@pytest.mark.filterwarnings("ignore:The pattern 'shared_prefix' has no effect")
def test_samples_of_prompts_that_were_asked_once(emulator, make_client):
    client = make_client("claude-haiku-4-5")
    ask(client)
    assert (emulator.stats().cache_writes, emulator.stats().cache_reads) == (0, 0)
    ask(client, samples=6)
    assert (emulator.stats().cache_writes, emulator.stats().cache_reads) == (5, 25)


@pytest.mark.filterwarnings("ignore:The pattern 'shared_prefix' has no effect")
def test_more_samples_where_the_local_cache_has_the_first(emulator, make_client):
    client = make_client("claude-haiku-4-5", cache=MemoryCache())
    ask(client)
    ask(client, samples=8)
    assert client.report().calls == 40
    assert (emulator.stats().cache_writes, emulator.stats().cache_reads) == (5, 30)
