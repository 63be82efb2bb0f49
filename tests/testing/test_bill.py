"""What the emulator says a request did to the prompt cache and what it cost, against sums worked out by hand.

One word of ``words`` is one token. Prices in the comments are US dollars per million tokens.
"""

import subprocess
import sys
from typing import Any

import pytest

from lm_deluge.testing import Answer, Bill, Emulator, FakeClock, Fault, ParsedRequest

CHAT = "/v1/chat/completions"
COUNT = "/v1/messages/count_tokens"
STATS = "/_emulator/stats"
MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
HAIKU = "claude-haiku-4-5"  # 1 input, 0.1 read, 1.25 written, 2 written for an hour, 5 output; caches from 4,096 tokens
TIERED = "claude-haiku-5-5"  # 0.1 input, 0.01 read, 0.125 written; five times that above 100,000 tokens of prompt
OUTPUT = 25


def words(count: int, word: str = "a") -> str:
    return (word * 3 + " ") * count


def text(count: int, word: str = "a", mark: Any = None) -> dict[str, Any]:
    block = {"type": "text", "text": words(count, word)}
    return block if mark is None else {**block, "cache_control": mark}


def messages(*content: Any, model: str = HAIKU, **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": list(content)}], **more}


def chat(tokens: int, **more: Any) -> dict[str, Any]:
    """A request of ``tokens`` tokens, one of them for its only message."""
    return {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": words(tokens - 1)}], **more}


def says_25_tokens(_: ParsedRequest) -> Answer:
    return Answer(text=words(OUTPUT).strip(), thinking="")


@pytest.fixture
def emulator(clock: FakeClock) -> Any:
    with Emulator(clock=clock, responder=says_25_tokens) as running:
        yield running


def dollars(*parts: tuple[int, float]) -> Any:
    """The sum of (tokens, dollars per million tokens)."""
    return pytest.approx(sum(tokens * price for tokens, price in parts) / 1e6, rel=1e-12)


# -- cost --------------------------------------------------------------------------------------------------------------


def test_each_kind_of_token_has_its_price(emulator: Emulator, ask: Any) -> None:
    sent = messages(text(1000, "b", MARK), text(100, "c"), system=[text(5000, mark=HOUR)])
    assert ask(emulator, sent).status == ask(emulator, sent).status == 200
    written, read = emulator.requests
    assert written.cost == dollars((5000, 2), (1000, 1.25), (100, 1), (25, 5)) == pytest.approx(0.011475)
    assert read.cost == dollars((6000, 0.1), (100, 1), (25, 5)) == pytest.approx(0.000825)
    bill = emulator.bill()
    assert bill.cost == pytest.approx(0.0123)
    assert bill.prompt_cost == pytest.approx(0.01205)
    assert bill.output_cost == dollars((50, 5))
    assert bill.unpriced == ()


def test_a_long_prompt_costs_more_by_itself_and_not_together_with_others(ask: Any) -> None:
    with Emulator(responder=lambda _: Answer(thinking="")) as emulator:
        for _ in range(3):
            ask(emulator, messages(text(100_000), model=TIERED))
        assert emulator.bill().cost == dollars((300_000, 0.1))
        ask(emulator, messages(text(100_001), model=TIERED))
        assert emulator.requests[-1].cost == dollars((100_001, 0.5))
        for _ in range(2):
            ask(emulator, messages(text(100_000, "b", MARK), text(1), model=TIERED))
        *_, written, read = emulator.requests
        assert written.cost == dollars((100_000, 0.625), (1, 0.5)), "what is written counts as prompt"
        assert read.cost == dollars((100_000, 0.05), (1, 0.5)), "and so does what is read"


def test_openai_charges_a_prompt_once_and_each_choice(emulator: Emulator, ask: Any) -> None:
    for _ in range(2):
        ask(emulator, chat(2001, n=3), path=CHAT)
    first, second = emulator.requests
    assert first.cost == dollars((2001, 0.4), (75, 1.6))
    assert second.cost == dollars((81, 0.4), (1920, 0.1), (75, 1.6))


def test_openai_charges_writes_from_gpt_5_6_on(emulator: Emulator, ask: Any) -> None:
    for _ in range(2):
        ask(emulator, chat(2001, model="gpt-6.1-sol"), path=CHAT)
    written, read = emulator.requests
    assert written.cost == dollars((2001, 2.5), (25, 10))
    assert read.cost == dollars((2001, 0.1), (25, 10))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("asked", "tier", "prompt", "output"),
    [
        (None, "default", 2, 8),
        ("auto", "default", 2, 8),
        ("default", "default", 2, 8),
        ("scale", "default", 2, 8),
        ("flex", "flex", 1, 4),
        ("priority", "priority", 3.5, 14),
        ("fast", "priority", 3.5, 14),
    ],
)
def test_service_tiers(
    asked: str | None, tier: str, prompt: float, output: float, stream: bool, emulator: Emulator, ask: Any
) -> None:
    answer = ask(emulator, chat(1000, model="o3", service_tier=asked, stream=stream), path=CHAT)
    assert {each["service_tier"] for each in (answer.events if stream else [answer.json])} == {tier}
    assert emulator.requests[0].cost == dollars((1000, prompt), (25, output))


def test_fast_mode_costs_more(emulator: Emulator, ask: Any) -> None:
    sent = messages(text(1000), model="claude-fable-5-2")
    ask(emulator, sent)
    answer = ask(emulator, {**sent, "speed": "fast"})
    assert answer.json["usage"]["service_tier"] == "standard"
    assert [each.cost for each in emulator.requests] == [dollars((1000, 8), (25, 40)), dollars((1000, 16), (25, 80))]


def test_a_model_without_a_price(emulator: Emulator, ask: Any) -> None:
    for model in ("zebra", "aardvark", "zebra", HAIKU):
        ask(emulator, messages(text(1000), model=model))
    ask(emulator, chat(1000, model=HAIKU), path=CHAT)
    costs = [each.cost for each in emulator.requests]
    assert costs == [None, None, None, dollars((1000, 1), (25, 5)), None], "nor does OpenAI sell Anthropic's models"
    assert emulator.bill() == Bill(
        cost=0.001125, prompt_cost=0.001, output_cost=0.000125, unpriced=("aardvark", HAIKU, "zebra")
    )


def test_only_what_was_generated_is_charged(emulator: Emulator, ask: Any) -> None:
    sent = messages(text(1000))
    ask(emulator, {**sent, "max_tokens": -1})
    ask(emulator, {name: each for name, each in sent.items() if name != "max_tokens"}, path=COUNT)
    emulator.script([Fault.overloaded(), Fault.raw(200, b"{}")])
    ask(emulator, sent)
    ask(emulator, sent)
    assert [(each.status, each.cost) for each in emulator.requests] == [(400, 0), (200, 0), (529, 0), (200, 0)]
    assert emulator.bill() == Bill(cost=0, prompt_cost=0, output_cost=0)
    emulator.script([Fault.truncated_stream()])
    ask(emulator, {**sent, "stream": True})
    assert emulator.requests[-1].cost == emulator.bill().cost == dollars((1000, 1), (25, 5)), "broken, but generated"


def test_filling_the_cache_costs_the_write_alone(emulator: Emulator, ask: Any) -> None:
    assert ask(emulator, messages(text(5000, mark=MARK), max_tokens=0)).status == 200
    assert emulator.requests[0].cost == dollars((5000, 1.25))


# -- telling it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_each_generation_says_what_it_did_to_the_cache(stream: bool, emulator: Emulator, ask: Any) -> None:
    def outcome(sent: dict[str, Any], path: str) -> str:
        return str(ask(emulator, {**sent, "stream": stream}, path=path).headers["x-emulator-cache"])

    sent = messages(text(1000, "b", MARK), text(40, "c"), system=[text(5000, mark=HOUR)])
    assert outcome(sent, "/v1/messages") == "uncached=40, read=0, write-5m=1000, write-1h=5000"
    assert outcome(sent, "/v1/messages") == "uncached=40, read=6000, write-5m=0, write-1h=0"
    assert outcome(messages(text(7)), "/v1/messages") == "uncached=7, read=0, write-5m=0, write-1h=0"
    assert outcome(chat(2001), CHAT) == "uncached=2001, read=0, write-5m=0, write-1h=0"
    assert outcome(chat(2001), CHAT) == "uncached=81, read=1920, write-5m=0, write-1h=0"
    assert outcome(chat(2001, model="gpt-6.1-sol"), CHAT) == "uncached=0, read=0, write-5m=2001, write-1h=0"


def test_the_header_comes_before_the_stream_has_ended_and_on_generations_alone(emulator: Emulator, ask: Any) -> None:
    emulator.script([Fault.error_mid_stream(), Fault.overloaded()])
    assert "x-emulator-cache" in ask(emulator, messages(text(7), stream=True)).headers
    for sent, path in [
        (messages(text(7)), "/v1/messages"),  # overloaded
        ({"model": HAIKU}, "/v1/messages"),
        ({"model": HAIKU, "messages": messages(text(7))["messages"]}, COUNT),
    ]:
        assert "x-emulator-cache" not in ask(emulator, sent, path=path).headers


def test_the_bill_over_http_without_records(ask: Any) -> None:
    with Emulator(responder=says_25_tokens, record=False) as emulator:
        for _ in range(2):
            ask(emulator, messages(text(5000, mark=MARK)))
        told = ask(emulator, method="GET", path=STATS).json
        assert (told["calls"], told["cache_reads"], told["output_tokens"]) == (2, 1, 50)
        assert told["bill"] == {
            "cost": dollars((5000, 1.25), (5000, 0.1), (50, 5)),
            "prompt_cost": dollars((5000, 1.25), (5000, 0.1)),
            "output_cost": dollars((50, 5)),
            "unpriced": [],
        }
        ask(emulator, path="/_emulator/reset")
        told = ask(emulator, method="GET", path=STATS).json
        assert (told["calls"], told["bill"]["cost"], emulator.bill().cost) == (0, 0, 0)


def test_serving_and_recording_load_no_prices() -> None:
    """Benchmarks run in the emulator's process: prices take 30 MB and a third of a second."""
    code = f"""if True:
        import sys, urllib.request
        from lm_deluge.testing import Emulator
        with Emulator() as emulator:
            headers = {{"authorization": "Bearer k", "content-type": "application/json"}}
            body = b'{{"model": "gpt-4.1-mini", "messages": [{{"role": "user", "content": "hi"}}]}}'
            urllib.request.urlopen(urllib.request.Request(emulator.url + {CHAT!r}, body, headers)).read()
            assert emulator.stats().calls == len(emulator.requests) == 1
            assert "genai_prices" not in sys.modules
            assert emulator.requests[0].cost == emulator.bill().cost > 0
            assert "genai_prices" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
