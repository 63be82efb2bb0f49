"""Costs agree with ``genai-prices`` for every kind of token, on every date, for every length of prompt."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.models import SERVICES, rates_for, resolve
from lm_deluge.models.prices import Rates, _rates
from lm_deluge.usage import Usage

NAMES = (
    "gpt-4.1-mini",  # no price for writes
    "gpt-4o",
    "gpt-5.4",  # dearer above 272,000 tokens
    "gpt-5.6-luna",  # prices by date, and tiers
    "gpt-6.1-sol",
    "o1-pro",  # no price for cache reads
    "o3",  # prices by date
    "claude-3-haiku",
    "claude-haiku-4-5",
    "claude-haiku-5-5",  # dearer above 100,000 tokens, five price kinds
    "claude-sonnet-4-6",  # tiers until a date
    "claude-fable-5-2",
    "openrouter/anthropic/claude-sonnet-4.5",
    "openrouter/google/gemini-2.5-pro",
    "gemini-2.5-pro",
    "groq/openai/gpt-oss-120b",
    "mistral/mistral-large-latest",
    "deepseek/deepseek-chat",  # prices by the hour
    "deepseek/deepseek-reasoner",
    "xai/grok-4",
)

tokens = st.one_of(st.integers(0, 2_000), st.integers(0, 300_000), st.sampled_from([99_999, 200_000, 272_000, 272_001]))


@st.composite
def usages(draw):
    writes, output = draw(tokens), draw(st.integers(0, 100_000))
    return Usage(
        input_tokens=draw(tokens),
        output_tokens=output,
        cache_read_tokens=draw(tokens),
        cache_write_tokens=writes,
        cache_write_1h_tokens=draw(st.integers(0, writes)),
        reasoning_tokens=draw(st.integers(0, output)),
    )


moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


def told(usage):
    """``usage`` as ``genai-prices`` counts: input includes what was cached."""
    return genai_prices.Usage(
        input_tokens=usage.total_input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )


def reference(model, usage, at):
    provider = model.service.price_provider
    found = genai_prices.calc_price(told(usage), model.api_name, provider_id=provider, genai_request_timestamp=at)
    return float(found.total_price)


def named(name):
    return resolve(name, environ={})


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(NAMES), usage=usages(), at=moments)
def test_cost_is_what_genai_prices_says(name, usage, at):
    model = named(name)
    rates = rates_for(model)
    assert rates is not None
    assert rates.cost(usage, at=at) == pytest.approx(reference(model, usage, at), rel=0, abs=1e-12)
    plain = Usage(input_tokens=usage.total_input_tokens, output_tokens=usage.output_tokens)
    plain = plain + Usage(reasoning_tokens=usage.reasoning_tokens)
    assert rates.uncached_cost(usage, at=at) == pytest.approx(reference(model, plain, at), rel=0, abs=1e-12)


def priced_models():
    ids = {service.price_provider for service in SERVICES.values()}
    return [
        (provider, model) for provider in get_snapshot().providers if provider.id in ids for model in provider.models
    ]


def check_all(models, at):
    for provider, model in models:
        expected = float(model.calc_price(told(USAGE), provider, genai_request_timestamp=at).total_price)
        assert Rates(model).cost(USAGE, at=at) == pytest.approx(expected, rel=0, abs=1e-12), (provider.id, model.id)


USAGE = Usage(
    input_tokens=150_001,
    output_tokens=997,
    cache_read_tokens=70_003,
    cache_write_tokens=60_013,
    cache_write_1h_tokens=1_009,
    reasoning_tokens=101,
)


def test_a_sample_of_all_priced_models():
    check_all(random.Random(0).sample(priced_models(), 150), datetime(2026, 11, 22, 3, 30, tzinfo=UTC))


@pytest.mark.long
def test_all_priced_models():
    for at in (datetime(2025, 6, 1, 17, tzinfo=UTC), datetime(2026, 11, 22, 3, 30, tzinfo=UTC)):
        check_all(priced_models(), at)


def test_the_published_prices_of_claude_haiku_5_5():
    rates = rates_for(named("claude-haiku-5-5"))
    million = 1_000_000
    # 100,000 tokens are still cheap, one more makes the whole request dear
    assert rates.cost(Usage(input_tokens=100_000)) * 10 == pytest.approx(0.10)
    assert rates.cost(Usage(input_tokens=100_001)) * million / 100_001 == pytest.approx(0.50)
    assert rates.cost(Usage(output_tokens=million)) == pytest.approx(0.50)
    assert rates.cost(Usage(cache_read_tokens=100_000)) * 10 == pytest.approx(0.01)
    assert rates.cost(Usage(cache_write_tokens=100_000)) * 10 == pytest.approx(0.125)
    assert rates.cost(Usage(cache_write_tokens=100_000, cache_write_1h_tokens=100_000)) * 10 == pytest.approx(0.20)


def test_writes_without_a_price_cost_as_much_as_input():
    rates = rates_for(named("gpt-4.1-mini"))
    assert rates.cost(Usage(cache_write_tokens=1_000, cache_write_1h_tokens=400)) == rates.cost(
        Usage(input_tokens=1_000)
    )


def test_uncached_cost_shows_a_first_write_as_a_loss_and_a_read_as_a_gain():
    rates = rates_for(named("claude-haiku-4-5"))
    write, read = Usage(cache_write_tokens=10_000), Usage(cache_read_tokens=10_000)
    assert rates.cost(write) > rates.uncached_cost(write) == rates.uncached_cost(read) > rates.cost(read)


def test_a_price_that_changes_by_the_hour_is_looked_up_each_time():
    rates = rates_for(named("deepseek/deepseek-reasoner"))
    day = datetime(2026, 11, 22, tzinfo=UTC)
    costs = {rates.cost(Usage(output_tokens=1_000_000), at=day + timedelta(hours=hour)) for hour in range(24)}
    assert len(costs) > 1


def test_no_price_is_none_and_not_zero():
    assert rates_for(named("openrouter/acme/nothing-like-it")) is None
    assert rates_for(named("openai/whisper-1")) is None  # priced by the hour of audio
    assert rates_for(resolve("my-finetune", base_url="http://localhost:8000/v1", environ={})) is None


def test_a_family_behind_a_gateway_keeps_its_price():
    local = resolve("gpt-4.1-mini", base_url="http://localhost:8000/v1", environ={})
    assert rates_for(local) is rates_for(named("gpt-4.1-mini"))


def test_every_service_has_a_price_list():
    known = {provider.id for provider in get_snapshot().providers}
    assert {service.price_provider for service in SERVICES.values()} <= known


def test_threads_agree():
    _rates.cache_clear()
    usage, at = Usage(input_tokens=1_000, cache_write_tokens=10, output_tokens=5), datetime(2026, 6, 1)
    start = threading.Barrier(8)

    def work(_):
        start.wait()
        return [rates_for(named(name)).cost(usage, at=at) for name in NAMES]

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(work, range(8))
    assert all(other == first for other in others)
    assert len(set(first)) > len(NAMES) / 2
