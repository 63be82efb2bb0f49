"""What a run would cost, told beforehand: what is asked about, and how it is told."""

import pytest

from lm_deluge import Conversation, LLMClient, Message, PromptCache
from lm_deluge.cache import MemoryCache
from lm_deluge.errors import ConfigError
from lm_deluge.testing import Answer, Emulator, gsm8k

MODELS = ["claude-haiku-4-5", "gpt-6-sol", "gpt-4.1-mini"]
HIGH = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}
ANSWER = "word" * 60  # 60 tokens, as the emulator counts


def examples(count: int) -> str:
    return "\n\n".join(f"{row['question']}\n{row['answer']}" for row in gsm8k("train")[:count])


def many_shot() -> list[Conversation]:
    """GSM8K's test questions behind solved ones."""
    base = Conversation.system("Solve it as here.\n\n" + examples(60))
    return [base.user(row["question"]) for row in gsm8k()[:400]]


def answer(_):
    return Answer(text=ANSWER, thinking="")


@pytest.fixture(scope="module")
def provider():
    with Emulator(responder=answer) as emulator:
        yield emulator


def client_of(emulator: Emulator, model: str, **arguments) -> LLMClient:
    url = emulator.anthropic_base_url if model.startswith("claude") else emulator.openai_base_url
    return LLMClient(model, base_url=url, api_key="any", **{**HIGH, **arguments})


def test_settings_of_one_pattern_are_told_apart():
    prompts = many_shot()
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
    with pytest.raises(KeyError, match="'automatic' was not asked about; what was: none, system_and_tools, "):
        estimate["automatic"]
    with LLMClient(MODELS[0]) as client:
        estimate = client.estimate(prompts[:2], patterns=[hour, PromptCache(ttl="1h", warm=False)])
    with pytest.raises(KeyError, match="asked about more than once"):
        estimate["system_and_tools"]


def test_what_the_local_cache_has_costs_nothing(provider):
    prompts = many_shot()
    with client_of(provider, MODELS[0], cache=MemoryCache()) as client:
        whole = client.estimate(prompts[:40])
        client.process_prompts_sync(prompts[:10], show_progress=False)
        calls = provider.calls
        rest = client.estimate(prompts[:40])
        assert (whole.hits, rest.hits, rest.prompts) == (0, 10, 40)
        assert str(client.estimate(prompts[:10])) == "Nothing to pay: of 10 prompts the local cache answers 10"
        assert rest["shared_prefix"].cold.reads == 29
        assert client.estimate(prompts[:40], cache_mode="refresh").hits == 0
        assert client.estimate(prompts[:40], cache_mode="bypass").hits == 0
        assert provider.calls == calls


def test_samples_and_single_flight_count_as_they_are_asked(provider):
    prompts = many_shot()[:5]
    with client_of(provider, MODELS[0]) as client:
        assert client.estimate(prompts, samples=3)[None].cold.usage.total_input_tokens == pytest.approx(
            3 * client.estimate(prompts)[None].cold.usage.total_input_tokens
        )
    with client_of(provider, MODELS[0], single_flight=True) as client:
        twice = client.estimate(prompts * 2)
        assert (twice.prompts, twice.hits) == (10, 5)


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
    assert "–" in str(estimate)
    assert str(estimate).splitlines()[0] == "1 of 1 prompt to my-model; best: none (by tokens; no price is known)"


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
    assert str(estimate).splitlines()[-1] == f"at least 3 min 5 s, for {name} holds it back"


def test_what_a_run_would_warn_of_is_told_before():
    """The prompts share all but a time at the end of one block, and no pattern can mark that."""
    prompts = [Conversation.system(f"{examples(60)} It is 12:{n:02}.").user("Go") for n in range(20)]
    with LLMClient(MODELS[0], **HIGH) as client:
        estimate = client.estimate(prompts)
        assert estimate.best.cache is None
        (advice,) = estimate.advice
        assert "part in messages[0] (system) at character" in advice
        assert "Put what the prompts share into a message" in advice
        assert str(estimate).splitlines()[-1] == advice
        hours = client.estimate(many_shot()[:20], patterns=PromptCache("shared_prefix", "12h"))
        assert "has no cache lifetime of 12h; 1h is used" in hours.advice[0]
        assert client.estimate(many_shot()[:20]).advice == ()
        (short,) = client.estimate(["Hi", "Ho", "Hu"]).advice
        assert "too short" in short


def test_a_prompt_that_no_limit_lets_through_is_counted_and_told():
    prompts = many_shot()[:2]
    with LLMClient(MODELS[0], max_tokens_per_minute=3_000) as client:
        estimate = client.estimate([*prompts, "Hello"])
        assert (estimate.prompts, estimate.unusable, estimate.best.cold.usage.total_input_tokens) == (3, 2, 2)
        assert "max_tokens_per_minute is 3,000, so it can never be sent" in estimate.problem
        assert str(estimate).splitlines()[-2].startswith("2 cannot be sent: The prompt has about ")
        assert str(client.estimate(prompts)).startswith(
            "Nothing to pay: of 2 prompts the local cache answers 0, 2 cannot"
        )


def test_it_reads_as_a_table():
    prompts = many_shot()
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
