"""Writes that brought nothing: counted by hand, and on real runs."""

import asyncio
import random

import msgspec
import pytest

from lm_deluge import Conversation, LLMClient, Message, PromptCache, Tool
from lm_deluge.events import RunReport
from lm_deluge.models import Rates
from lm_deluge.models.rates import Band
from lm_deluge.prompt import ProviderBlock, Text
from lm_deluge.prompt_cache import Prefix
from lm_deluge.prompt_cache.write_audit import WriteAudit, WriteLog
from lm_deluge.testing import Answer, Emulator, gsm8k
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


def tail(number, tokens=3_000):
    return Prefix(b"tail %d" % number, tokens, 1_000, 300.0)


def lost(*answers, goes_on=False):
    writes = WriteAudit(WriteLog(), goes_on=goes_on)
    for prefixes, usage, started, *prompt in answers:
        writes.add(prefixes, usage, RATES, started=started, prompt=prompt[0] if prompt else None)
    return writes.wasted_cost()


def test_a_write_that_is_read_is_not_lost():
    assert lost(([SYSTEM], wrote(1_000), 0), ([SYSTEM], wrote(0, read=1_000), 1)) == 0


def test_writing_what_is_there_costs_the_difference_to_a_read():
    assert lost(([SYSTEM], wrote(1_000), 0), ([SYSTEM], wrote(1_000), 1)) == pytest.approx(1_150)
    hour = ([SYSTEM], wrote(1_000, hour=1_000), 0)
    assert lost(hour, hour) == pytest.approx(1_900)


def test_after_the_entry_has_ended_it_has_to_be_written():
    late = ([SYSTEM], wrote(1_000), 0), ([SYSTEM], wrote(1_000), 301)
    assert lost(*late, goes_on=True) == 0
    assert lost(*late) == pytest.approx(2 * 250)  # but none was read


def test_a_write_that_nobody_reads_costs_its_surcharge():
    unread = [([Prefix(bytes([n]), 1_000, 1_000, 300.0)], wrote(1_000), n) for n in range(3)]
    assert lost(*unread) == pytest.approx(750)
    assert lost(*unread, goes_on=True) == 0


def test_nothing_is_lost_by_a_prompt_alone():
    assert lost(([SYSTEM], wrote(1_000), 0)) == 0


def test_of_nested_prefixes_only_what_is_written_again_is_lost():
    both = [SYSTEM, LONG]
    other = [SYSTEM, Prefix(b"m", 3_000, 1_000, 300.0)]
    # The second reads the system text and writes its document.
    leaders = (both, wrote(3_000), 0), (other, wrote(2_000, read=1_000), 1)
    assert lost(*leaders, goes_on=True) == 0
    # Two thirds of the first write are the document's, which no other reads; the same goes for the second.
    assert lost(*leaders) == pytest.approx(500 + 500)
    # Another writes all of it once more, and another the document alone.
    assert lost(*leaders, (both, wrote(3_000), 2), goes_on=True) == pytest.approx(3_450)
    assert lost(*leaders, (both, wrote(2_000, read=1_000), 2), goes_on=True) == pytest.approx(2_300)


def test_how_long_a_prefix_is_that_was_written_again_is_known_once_it_is_read():
    herd = [([SYSTEM, tail(n)], wrote(3_000), 0) for n in range(5)]
    assert lost(*herd, goes_on=True) == 0  # the system text may be shorter than what is cached
    reader = ([SYSTEM, tail(5)], wrote(1_900, read=1_100), 1)
    assert lost(*herd, reader, goes_on=True) == pytest.approx(4 * 1_100 * 1.15)
    assert lost(reader, *herd, ([SYSTEM, tail(6)], wrote(1_900, read=1_100), 1), goes_on=True) == pytest.approx(5_060)


def test_an_answer_that_took_longer_than_the_entry_lived_is_of_another_entry():
    assert lost(([SYSTEM], wrote(1_000), 400), ([SYSTEM], wrote(1_000), 0), goes_on=True) == 0
    assert lost(([SYSTEM], wrote(1_000), 200), ([SYSTEM], wrote(1_000), 0), goes_on=True) == pytest.approx(1_150)


def test_ends_that_are_no_prefix_are_lost_unless_something_is_read_that_may_be_theirs():
    unread = [([], wrote(2_000), n) for n in range(3)]
    assert lost(*unread) == pytest.approx(1_500)
    assert lost(*unread, goes_on=True) == 0
    chat = [([], wrote(2_000, read=2_000 * n), n) for n in range(5)]
    assert lost(*chat) == 0
    # Behind a prefix that others read only the end is lost: its surcharge, not all that a read would have saved.
    behind = [([SYSTEM], wrote(2_000 + 1_000 * (n == 0), read=1_000 * (n > 0)), n) for n in range(40)]
    prompt = Conversation.user("word" * 3_000)
    for order in (behind, behind[::-1]):
        assert lost(*((*each, prompt) for each in order)) == pytest.approx(40 * 2_000 * 0.25)


def test_a_file_whose_length_cannot_be_estimated_blames_nobody():
    packed = Prefix(b"file", 400_000, 1_000)
    requests = [([packed, tail(n, 410_000)], wrote(10_000, read=9_000), n) for n in range(1, 9)]
    assert lost(([packed, tail(0, 410_000)], wrote(19_000), 0), *requests, goes_on=True) == 0


def test_memory_is_bounded_and_what_is_forgotten_stays_counted():
    log = WriteLog()
    writes, again = WriteAudit(log, goes_on=False), WriteAudit(log, goes_on=True)
    for number in range(70_000):
        prefixes = [Prefix(number.to_bytes(4, "big"), 1_000, 1_000)]
        writes.add(prefixes, wrote(1_000), RATES, started=0)
        if number == 65_535:
            assert writes.wasted_cost() == pytest.approx(65_536 * 250)
    assert len(log) == len(writes._unread) == 65_536
    assert writes.wasted_cost() == pytest.approx(70_000 * 250)
    for number in range(70_000):
        prefixes = [Prefix(number.to_bytes(4, "little") + b"2", 1_000, 1_000)]
        again.add(prefixes, wrote(1_000), RATES, started=0)
        again.add(prefixes, wrote(1_000), RATES, started=0)
    assert len(log) == len(again._again) == 65_536
    assert again.wasted_cost() == pytest.approx(70_000 * 1_150)


# Against a provider that knows all lengths, while the estimates of them err


MINIMUM = 1_024
TAILS = ("listed", "unseen", "plain")


class Provider:
    """Writes and reads at breakpoints, as real ones do, and knows what each write was good for."""

    def __init__(self, rng):
        self.rng = rng
        self.lengths, self.estimates = {}, {}  # of segments, of which prompts are made
        self.readable = {}  # from when on
        self.written = 0
        self.prompts = {}  # that have a segment which was written
        self.answers = []

    def segment(self, name, tokens):
        self.lengths[name] = tokens
        self.estimates[name] = round(tokens * self.rng.uniform(0.72, 1.28))

    def ask(self, names, at, *, tail, latency):
        """``tail``: whether the end of the last segment is a listed prefix, is cached unseen, or is plain input."""
        ends, estimates, total, estimate = [], [], 0, 0
        for name in names:
            total, estimate = total + self.lengths[name], estimate + self.estimates[name]
            ends.append(total)
            estimates.append(estimate)
        cached = names if tail != "plain" else names[:-1]
        cached = [at for at in range(len(cached)) if ends[at] >= MINIMUM]
        read = max((ends[n] for n in cached if self.readable.get(tuple(names[: n + 1]), 1e9) <= at), default=0)
        reached = max([read, *(ends[n] for n in cached)])
        for n in cached:
            key = tuple(names[: n + 1])
            self.prompts.setdefault(key, [ends[n] - max([0, *(ends[m] for m in cached if m < n)]), 0])[1] += 1
            if ends[n] > read:
                self.readable[key] = min(at + latency, self.readable.get(key, 1e9))
        self.written += reached - read
        listed = len(names) if tail == "listed" else len(names) - 1
        prefixes = [Prefix("/".join(names[: n + 1]).encode(), estimates[n], MINIMUM) for n in range(listed)]
        usage = Usage(input_tokens=total - reached, cache_read_tokens=read, cache_write_tokens=reached - read)
        took = latency + self.rng.choice((0, self.rng.uniform(0, 100)))
        self.answers.append((at + took, (prefixes, usage, at, Conversation.user("word" * estimate))))

    def again(self):
        """Tokens that were written more than once, less the first time."""
        return self.written - sum(tokens for tokens, _ in self.prompts.values())

    def unread(self):
        """Tokens of what one prompt alone has."""
        return sum(tokens for tokens, prompts in self.prompts.values() if prompts == 1)

    def lost(self, *, goes_on):
        return lost(*(answer for _, answer in sorted(self.answers, key=lambda each: each[0])), goes_on=goes_on)


@pytest.mark.parametrize("tail", TAILS)
def test_one_write_a_group_is_no_loss_however_estimates_err(tail):
    for seed in range(100):
        rng = random.Random(seed)
        provider = Provider(rng)
        provider.segment("system", rng.randint(2_000, 50_000))
        for document in range(3):
            provider.segment(f"document {document}", rng.randint(500, 20_000))
        for number in range(30):
            provider.segment(f"end {number}", rng.randint(20, 10_000))
            document = number % 3
            at = 0 if number == 0 else 5 + rng.random() if number < 3 else 20 + rng.random()
            names = ["system", f"document {document}", f"end {number}"]
            provider.ask(names, at, tail=tail, latency=4)
        assert provider.again() == 0
        assert provider.lost(goes_on=True) == 0, seed
        if tail == "plain":
            assert provider.lost(goes_on=False) == 0, seed


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("somebody_reads", [True, False])
def test_of_many_writers_at_once_all_but_one_are_a_loss(tail, somebody_reads):
    for seed in range(60):
        rng = random.Random(seed)
        provider = Provider(rng)
        provider.segment("system", rng.randint(4_000, 50_000))
        writers = rng.randint(2, 30)
        for number in range(writers + somebody_reads):
            # How long the system text is can be told if somebody reads just that, or if it is nearly all of the prompt.
            long = 30_000 if somebody_reads or tail == "plain" else provider.lengths["system"] // 100
            provider.segment(f"end {number}", rng.randint(20, long))
            provider.ask(["system", f"end {number}"], 10 * (number >= writers), tail=tail, latency=5)
        expected = (writers - 1) * provider.lengths["system"] * 1.15
        assert 0.95 * expected <= provider.lost(goes_on=True) <= expected * (1 + 1e-9), seed


@pytest.mark.parametrize("goes_on", [True, False])
def test_nothing_is_said_to_be_lost_that_is_not(goes_on):
    for seed in range(100):
        rng = random.Random(seed)
        provider = Provider(rng)
        mixed = rng.random() < 0.3
        tail = rng.choice(TAILS)
        for name in ("a", "b", "a0", "a1", "b0", "b1"):
            provider.segment(name, rng.choice((rng.randint(100, 2_000), rng.randint(2_000, 30_000))))
        for number in range(60):
            provider.segment(f"end {number}", rng.choice((rng.randint(20, 100), rng.randint(100, 20_000))))
            system = rng.choice("ab")
            names = [system, *([system + rng.choice("01")] if rng.random() < 0.7 else []), f"end {number}"]
            how = rng.choice(TAILS) if mixed else tail
            for _ in range(rng.choice((1, 1, 1, 2))):
                provider.ask(names, rng.uniform(0, 40), tail=how, latency=rng.uniform(1, 10))
        most = provider.again() * 1.15 + (0 if goes_on else provider.unread() * 0.25)
        assert provider.lost(goes_on=goes_on) <= most * (1 + 1e-9), seed


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
    assert report.wasted_write_cost == pytest.approx(19 * written * (1.25 - 0.1) * 1e-6, rel=1e-6)
    assert report.prompt_cache_hit_ratio == 0
    assert report.saved_by_prompt_cache == pytest.approx(-20 * written * 0.25e-6, rel=1e-6)


def test_warm_fan_out_loses_nothing(emulator, make_client):
    base = many_shot()
    client = make_client(MODEL)
    for _ in range(2):
        client.process_prompts_sync([base.user(f"{n}") for n in range(20)], cache="shared_prefix", show_progress=False)
        assert client.last_report.wasted_write_cost == 0
    assert client.last_report.prompt_cache_hit_ratio > 0.99
    assert client.report().saved_by_prompt_cache > 0


def test_breakpoints_on_what_varies_show_as_lost(emulator, make_client):
    base = many_shot()
    client = make_client(MODEL)
    with pytest.warns(UserWarning, match="differs in every one of the latest 5 prompts"):
        client.process_prompts_sync(
            [Conversation.system(f"{n}. {base.messages[0].parts[0].text}").user("Go") for n in range(5)],
            cache="system_and_tools",
            show_progress=False,
        )
    report = client.last_report
    assert report.wasted_write_cost == pytest.approx(report.usage.cache_write_tokens * 0.25e-6, rel=1e-6)


def own_breakpoint(model, text):
    breakpoint_ = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    if model == MODEL:
        return ProviderBlock("anthropic", {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})
    return ProviderBlock("openai-chat", {"type": "text", "text": text, **breakpoint_})


@pytest.mark.parametrize("model", [MODEL, "gpt-6-sol"])
@pytest.mark.parametrize("pattern", ["conversation", "last_2_user_messages", "automatic"])
def test_a_leader_that_ends_after_its_followers_has_lost_nothing(model, pattern):
    shared = Message("user", [own_breakpoint(model, "First. " * 9_000)])
    prompts = [Conversation([shared, Message.ai("ok"), Message.user(f"{n} " + "word " * 200)]) for n in range(20)]
    long = "word " * 60_000

    def respond(request):
        return Answer(text=long if request.text.rstrip().endswith("0 " + ("word " * 200).rstrip()) else "Yes")

    with Emulator(responder=respond) as emulator:
        url = emulator.url if model == MODEL else emulator.openai_base_url
        with LLMClient(model, base_url=url, api_key="any", max_tokens_per_minute=1e10) as client:
            client.process_prompts_sync(prompts, cache=pattern, show_progress=False)
            report = client.last_report
    assert report.usage.cache_read_tokens > 19 * 15_000
    assert report.wasted_write_cost == 0


@pytest.mark.parametrize("model", [MODEL, "gpt-6-sol"])
def test_a_chat_has_lost_nothing(make_client, model):
    client = make_client(model)

    async def main():
        talk = many_shot()
        for turn in range(20):
            talk = talk.user(f"Turn {turn} " + "some words " * (turn * 7 % 50))
            talk = talk.with_response(await client.start(talk, cache="conversation"))

    asyncio.run(main())
    assert client.report().usage.cache_write_tokens > 0
    assert client.report().wasted_write_cost == 0


@pytest.mark.filterwarnings("ignore::lm_deluge.errors.PromptCacheWarning")
@pytest.mark.parametrize(
    ("model", "pattern", "extra", "prompt", "price"),
    [
        # A growing pattern does not count unread ends; others count what they cost above plain input.
        (MODEL, "automatic", False, "own breakpoint", 0),
        ("gpt-6-sol", "automatic", False, "own breakpoint", 0),
        (MODEL, "system_and_tools", True, "system", 0.25e-6),
        ("gpt-6-sol", "system_and_tools", False, "no system", 0.5e-6),
        ("gpt-6-sol", "system_and_tools", False, "half", 0.5e-6),
        ("gpt-6-sol", "tools_only", False, "no system", 0.5e-6),
    ],
)
def test_ends_that_nobody_reads_cost_their_surcharge(make_client, model, pattern, extra, prompt, price):
    body = {"extra_body": {"cache_control": {"type": "ephemeral"}}} if extra else {}
    client = make_client(model, **body)
    system = Conversation.system("Solve it step by step. " * 1_500)

    def ask(number):
        end = f"{number} " + "tail " * 2_000
        if prompt == "own breakpoint":
            return Conversation([Message("user", [own_breakpoint(model, "doc " * 8_000), Text(end)])])
        return (system if prompt == "system" or (prompt == "half" and number % 2) else Conversation()).user(end)

    tools = [Tool(name="look", description="Look. " * 2_000, parameters={})] if pattern == "tools_only" else None
    client.process_prompts_sync([ask(n) for n in range(20)], tools=tools, cache=pattern, show_progress=False)
    report = client.last_report
    assert report.usage.cache_write_tokens > 20_000
    unread = report.usage.cache_write_tokens
    if report.usage.cache_read_tokens:  # the first write of what was read is not one of them
        unread -= report.usage.cache_read_tokens // (report.prompt_cache_hits[next(iter(report.prompt_cache_hits))])
    assert report.wasted_write_cost == pytest.approx(unread * price, rel=1e-6)


def test_reports_in_cache_files_keep_the_name_of_the_field():
    stored = msgspec.json.encode(RunReport(wasted_write_cost=0.5))
    assert b'"lost_to_writes":0.5' in stored
    assert msgspec.json.decode(stored, type=RunReport).wasted_write_cost == 0.5
