"""Writes that brought nothing: counted by hand, and on real runs."""

import asyncio

import pytest

from lm_deluge import Conversation, PromptCache
from lm_deluge.engine.writes import WriteLog, Writes
from lm_deluge.models import Rates
from lm_deluge.models.prices import Band
from lm_deluge.prompt_cache import Prefix
from lm_deluge.testing import gsm8k
from lm_deluge.usage import Usage

# A dollar for each input token, a tenth for a read, a quarter more for a write, twice for a write that lasts.
RATES = Rates(
    lists=(
        (
            Band(
                above=0,
                request=0.0,
                input=1.0,
                cache_read=0.1,
                cache_write=1.25,
                cache_write_1h=2.0,
                output=5.0,
                reasoning=5.0,
            ),
        ),
    )
)
SYSTEM, LONG = Prefix(b"s", 1_000, 1_000, 300.0), Prefix(b"l", 3_000, 1_000, 300.0)


def wrote(tokens, *, read=0, hour=0):
    return Usage(input_tokens=10, cache_read_tokens=read, cache_write_tokens=tokens, cache_write_1h_tokens=hour)


def lost(*answers, goes_on=False):
    writes = Writes(WriteLog(), goes_on=goes_on)
    for prefixes, usage, started in answers:
        writes.add(prefixes, usage, RATES, started=started)
    return writes.lost()


def test_a_write_that_is_read_is_not_lost():
    assert lost(([SYSTEM], wrote(1_000), 0), ([SYSTEM], wrote(0, read=1_000), 1)) == 0


def test_writing_what_is_there_costs_the_difference_to_a_read():
    assert lost(([SYSTEM], wrote(1_000), 0), ([SYSTEM], wrote(1_000), 1)) == pytest.approx(1_150)
    hour = ([SYSTEM], wrote(1_000, hour=1_000), 0)
    assert lost(hour, hour) == pytest.approx(1_900)


def test_after_the_entry_has_ended_it_has_to_be_written():
    late = ([SYSTEM], wrote(1_000), 0), ([SYSTEM], wrote(1_000), 301)
    assert lost(*late, goes_on=True) == 0
    assert lost(*late) == pytest.approx(2 * 250)  # but nobody read either


def test_a_write_that_nobody_reads_costs_its_surcharge():
    unread = [([Prefix(bytes([n]), 1_000, 1_000, 300.0)], wrote(1_000), n) for n in range(3)]
    assert lost(*unread) == pytest.approx(750)
    assert lost(*unread, goes_on=True) == 0


def test_nothing_is_lost_by_a_prompt_alone():
    assert lost(([SYSTEM], wrote(1_000), 0)) == 0


def test_of_nested_prefixes_only_what_is_written_again_is_lost():
    both = [SYSTEM, LONG]
    # The second reads the system text and writes its document; the third writes all of it once more.
    other = [SYSTEM, Prefix(b"m", 3_000, 1_000, 300.0)]
    assert lost((both, wrote(3_000), 0), (other, wrote(2_000, read=1_000), 1), goes_on=True) == 0
    assert lost((both, wrote(3_000), 0), (other, wrote(3_000), 1), goes_on=True) == pytest.approx(1_150)
    # Of the first write two thirds are the document's, which nobody reads; the same goes for the second.
    assert lost((both, wrote(3_000), 0), (other, wrote(2_000, read=1_000), 1)) == pytest.approx(500 + 500)


def test_memory_is_bounded_and_what_is_forgotten_stays_counted():
    log = WriteLog()
    writes = Writes(log, goes_on=False)
    for number in range(70_000):
        writes.add([Prefix(number.to_bytes(4, "big"), 1_000)], wrote(1_000), RATES, started=number)
    assert len(log) == len(writes._surcharges) == 65_536
    assert writes.lost() == pytest.approx(70_000 * 250)


# On runs

MODEL = "claude-haiku-4-5"


def many_shot():
    rows = gsm8k("train")[:100] * 2
    return Conversation.system("\n\n".join(f"{row['question']}\n{row['answer']}" for row in rows))


def test_a_herd_shows_in_the_report(emulator, make_client):
    base = many_shot()
    client = make_client(MODEL, max_concurrent_requests=20)

    async def main():
        with emulator.hold() as gate:
            cache = PromptCache(warm=False)
            prompts = [base.user(f"{number}") for number in range(20)]
            task = asyncio.create_task(client.process_prompts_async(prompts, cache=cache, show_progress=False))
            await gate.arrived(20)
            gate.open()
            await task

    asyncio.run(main())
    report = client.last_report
    written = report.usage.cache_write_tokens // 20
    assert report.lost_to_writes == pytest.approx(19 * written * (1.25 - 0.1) * 1e-6, rel=1e-6)
    assert report.prompt_cache_hit_ratio == 0
    assert report.saved_by_prompt_cache == pytest.approx(-20 * written * 0.25e-6, rel=1e-6)


def test_warm_fan_out_loses_nothing(emulator, make_client):
    base = many_shot()
    client = make_client(MODEL)
    for _ in range(2):
        client.process_prompts_sync([base.user(f"{n}") for n in range(20)], cache="shared_prefix", show_progress=False)
        assert client.last_report.lost_to_writes == 0
    assert client.last_report.prompt_cache_hit_ratio > 0.99
    assert client.report().saved_by_prompt_cache > 0


def test_marks_on_what_varies_show_as_lost(emulator, make_client):
    base = many_shot()
    client = make_client(MODEL)
    with pytest.warns(UserWarning, match="differs in every one of 5 prompts"):
        client.process_prompts_sync(
            [Conversation.system(f"{n}. {base.messages[0].parts[0].text}").user("Go") for n in range(5)],
            cache="system_and_tools",
            show_progress=False,
        )
    report = client.last_report
    assert report.lost_to_writes == pytest.approx(report.usage.cache_write_tokens * 0.25e-6, rel=1e-6)
