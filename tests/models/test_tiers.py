"""Other processing tiers cost what providers publish and ``genai-prices`` says; a tier without a price has none."""

import random
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, PriceVariant, StartDateConstraint, TimeOfDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.models import SERVICES, rates_for, resolve
from lm_deluge.models.measurement import measure, measure_model
from lm_deluge.models.prices import _rates
from lm_deluge.models.tiers import tier_of
from lm_deluge.usage import Usage

TIERS = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
FAST_AT_ANTHROPIC, FAST_AT_OPENAI = {"speed": "fast"}, {"service_tier": "fast"}

USAGE = Usage(
    input_tokens=1_000,
    output_tokens=300,
    cache_read_tokens=4_000,
    cache_write_tokens=2_000,
    cache_write_1h_tokens=500,
    reasoning_tokens=100,
)


def named(name):
    return resolve(name, environ={})


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


def sizes(total):
    """Usages of which ``total`` tokens are input, of all kinds, so that each kind's band of prompt length shows."""
    return Usage(
        input_tokens=total - 3 * (total // 5),
        output_tokens=977,
        cache_read_tokens=total // 5,
        cache_write_tokens=2 * (total // 5),
        cache_write_1h_tokens=total // 7,
        reasoning_tokens=131,
    )


# What providers publish


@pytest.mark.parametrize(
    ("name", "tier", "usage", "dollars"),
    [
        # Anthropic, pricing page: half of 3, 3.75, 6, 0.30 and 15 dollars a million.
        ("claude-sonnet-4-6", "batch", USAGE, (1_000 * 1.5 + 1_500 * 1.875 + 500 * 3 + 4_000 * 0.15 + 300 * 7.5) / 1e6),
        # The price above 100,000 tokens of prompt is halved too.
        (
            "claude-haiku-5-5",
            "batch",
            Usage(input_tokens=10_000, cache_read_tokens=100_000, output_tokens=1_000),
            (10_000 * 0.25 + 100_000 * 0.025 + 1_000 * 1.25) / 1e6,
        ),
        # Fast mode: 8 and 40 dollars, and the cache's multipliers on top.
        (
            "claude-opus-5-5",
            "fast",
            USAGE,
            (1_000 * 8 + 1_500 * 10 + 500 * 16 + 4_000 * 0.4 + 300 * 40) / 1e6,
        ),
        # OpenAI, pricing page. Writes of this model cost the input price.
        ("gpt-5.4", "flex", USAGE, (3_000 * 1.25 + 4_000 * 0.13 + 300 * 7.5) / 1e6),
        (
            "gpt-5.4",
            "flex",
            Usage(input_tokens=200_000, cache_read_tokens=72_001, output_tokens=1_000),
            (200_000 * 2.5 + 72_001 * 0.25 + 1_000 * 11.25) / 1e6,
        ),
        ("gpt-4.1", "priority", USAGE, (3_000 * 3.5 + 4_000 * 0.875 + 300 * 14) / 1e6),
        # The batch table has no price for cache reads of earlier models: they cost as much as elsewhere.
        ("gpt-4.1", "batch", USAGE, (3_000 * 1 + 4_000 * 0.5 + 300 * 4) / 1e6),
        ("gpt-6.1-sol", "priority", USAGE, (1_000 * 4 + 2_000 * 5 + 4_000 * 0.2 + 300 * 20) / 1e6),
        ("groq/openai/gpt-oss-120b", "batch", USAGE, (7_000 * 0.075 + 300 * 0.3) / 1e6),
    ],
)
def test_published_prices(name, tier, usage, dollars):
    assert rates_for(named(name), tier).cost(usage) == pytest.approx(dollars, rel=1e-12)


def claude_models_with_batch():
    provider = next(provider for provider in get_snapshot().providers if provider.id == "anthropic")
    return [model for model in provider.models if "batch" in measure_model(model).tiers]


def test_anthropic_takes_half_for_every_kind_of_token_in_a_batch():
    models = claude_models_with_batch()
    assert len(models) > 10
    for model in models:
        rates = measure_model(model)
        batch = rates.for_tier("batch")
        for total in (1, 5_000, 100_000, 100_001, 200_000, 200_001, 900_000):
            usage = sizes(total)
            assert batch.cost(usage) == pytest.approx(rates.cost(usage) / 2, rel=1e-12), (model.id, total)
            assert batch.uncached_cost(usage) == pytest.approx(rates.uncached_cost(usage) / 2, rel=1e-12)


# What genai-prices says

PAIRS = [
    *((name, tier, TIERS[tier]) for name in ("gpt-5.4", "gpt-5.6-luna", "gpt-6.1-sol", "o3") for tier in TIERS),
    *((name, "fast", FAST_AT_OPENAI) for name in ("gpt-4.1-mini", "gpt-6-astra")),
    *((name, "fast", FAST_AT_ANTHROPIC) for name in ("claude-opus-5", "claude-fable-5-2")),
    *(
        (name, "batch", TIERS["batch"])
        for name in (
            "claude-haiku-4-5",
            "claude-haiku-5-5",
            "claude-sonnet-4-5",
            "claude-sonnet-4-6",
            "gemini-2.5-pro",
            "gemini-3.8-flash",  # dearer from a day that may still lie ahead
            "mistral/mistral-large-4",  # three batch prices, one after the other
            "xai/grok-4.3",
        )
    ),
]
tokens = st.one_of(st.integers(0, 2_000), st.integers(0, 300_000), st.sampled_from([99_999, 200_000, 272_000, 272_001]))
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


@settings(deadline=None, max_examples=300)
@given(pair=st.sampled_from(PAIRS), counts=st.tuples(*[tokens] * 6), at=moments)
def test_a_tier_costs_what_genai_prices_says(pair, counts, at):
    name, tier, context = pair
    plain, read, written, hour, output, reasoning = counts
    usage = Usage(
        input_tokens=plain,
        cache_read_tokens=read,
        cache_write_tokens=written + hour,
        cache_write_1h_tokens=hour,
        output_tokens=output + reasoning,
        reasoning_tokens=reasoning,
    )
    model = named(name)
    found = genai_prices.calc_price(
        told(usage),
        model.api_name,
        provider_id=model.service.price_provider,
        genai_request_timestamp=at,
        price_context=context,
    )
    assert rates_for(model, tier).cost(usage, at=at) == pytest.approx(float(found.total_price), rel=0, abs=1e-12)


def priced_in_tiers():
    ids = {service.price_provider for service in SERVICES.values()}
    return [
        (provider, model)
        for provider in get_snapshot().providers
        if provider.id in ids
        for model in provider.models
        if model.price_variants
    ]


def check_tiers(pairs):
    for provider, model in pairs:
        rates = measure_model(model)
        days = {datetime.now(UTC)}
        for variant in model.price_variants:
            if variant.constraint is not None:
                begin = datetime.combine(variant.constraint.start_date, time.min, tzinfo=UTC)
                days |= {begin, begin - timedelta(microseconds=1)}
        contexts = {"fast": FAST_AT_ANTHROPIC if provider.id == "anthropic" else FAST_AT_OPENAI, **TIERS}
        for tier, prices in rates.tiers.items():
            for at in days:
                for total in (7_000, 280_007):
                    found = model.calc_price(
                        told(sizes(total)), provider, genai_request_timestamp=at, price_context=contexts[tier]
                    )
                    expected = pytest.approx(float(found.total_price), rel=0, abs=1e-12)
                    assert prices.cost(sizes(total), at=at) == expected, (provider.id, model.id, tier, at)


def test_a_sample_of_all_tiers():
    check_tiers(random.Random(0).sample(priced_in_tiers(), 15))


@pytest.mark.long
def test_all_tiers():
    check_tiers(priced_in_tiers())


def test_every_tier_of_the_list_is_found_and_nothing_else():
    now, found = datetime.now(UTC), 0
    for provider, model in priced_in_tiers():
        words = {
            word
            for variant in model.price_variants
            for name, word in variant.when.items()
            if name not in ("route", "search_type") and word != "default"
            if variant.constraint is None or variant.constraint.active(now)
        }
        assert measure_model(model).tiers.keys() == words, (provider.id, model.id)
        found += len(words)
    assert found > 150


# What is not known


@pytest.mark.parametrize("word", [None, "", "default", "standard", "auto", "on_demand", "Standard", "ON_DEMAND"])
def test_words_for_standard_processing(word):
    model = named("gpt-4.1")
    assert rates_for(model, word) is rates_for(model)


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("claude-sonnet-4-6", "priority"),  # capacity bought in advance
        ("claude-opus-5-5", "us"),
        ("claude-opus-5-5", "batch+us"),
        ("gpt-4.1", "scale"),
        ("gpt-4.1", "flex"),  # of this model there is none
        ("gpt-5.4", "ultrafast"),
        ("openrouter/openai/gpt-5.4", "flex"),
        ("deepseek/deepseek-chat", "batch"),
        ("openrouter/acme/nothing-like-it", "batch"),
    ],
)
def test_a_tier_without_a_price_does_not_get_the_standard_one(name, tier):
    assert rates_for(named(name), tier) is None


def test_a_tier_is_read_in_any_case():
    assert rates_for(named("gpt-5.4"), "FLEX") is rates_for(named("gpt-5.4"), "flex") is not None


def test_several_words_make_one_tier_of_their_own():
    assert tier_of("standard", None, "", "auto") is None
    assert tier_of("standard", "Fast") == "fast"
    assert tier_of("batch", "standard", "us") == "batch+us"


def test_claude_at_google_has_the_tiers_of_google_alone():
    at_google, at_home = measure("google", "claude-sonnet-5"), measure("anthropic", "claude-sonnet-5")
    assert at_google.for_tier("batch") is None
    assert at_home.for_tier("batch") is not None
    assert at_google.cost(USAGE) == at_home.cost(USAGE)
    asked = genai_prices.calc_price(
        told(USAGE), "claude-sonnet-5", provider_id="google", price_context={"processing": "batch"}
    )
    assert float(asked.total_price) == pytest.approx(at_google.cost(USAGE))  # which would be wrong


def a_model_with(*variants):
    model = next(model for _, model in priced_in_tiers())
    standard = ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(10))
    return replace(model, prices=standard, price_variants=list(variants))


def variant(when, *, constraint=None, **prices):
    prices = {name: Decimal(price) for name, price in prices.items()}
    return PriceVariant(when=when, prices=ModelPrice(**prices), constraint=constraint)


def test_a_tier_that_says_the_price_is_the_standard_one_has_it():
    rates = measure_model(a_model_with(variant({"processing": "batch"})))
    assert rates.for_tier("batch").cost(USAGE) == rates.cost(USAGE)


def test_of_two_prices_for_one_tier_the_first_counts():
    rates = measure_model(
        a_model_with(
            variant({"processing": "batch"}, input_mtok=1),
            variant({"processing": "batch"}, input_mtok=7, output_mtok=5),
        )
    )
    assert rates.for_tier("batch").cost(Usage(input_tokens=1_000_000, output_tokens=1_000_000)) == pytest.approx(6)


def test_a_price_that_is_still_to_come_is_none():
    ahead = StartDateConstraint(start_date=datetime.now(UTC).date() + timedelta(days=3))
    rates = measure_model(a_model_with(variant({"service_tier": "flex"}, constraint=ahead, input_mtok=1)))
    assert rates.for_tier("flex") is None
    before = StartDateConstraint(start_date=date(2026, 10, 14))
    both = [variant({"service_tier": "flex"}, constraint=each, input_mtok=1) for each in (ahead, before)]
    assert measure_model(a_model_with(*both)).for_tier("flex") is not None


def test_a_tier_may_be_cheaper_at_night():
    night = TimeOfDateConstraint(start_time=time(22), end_time=time(6))
    rates = measure_model(
        a_model_with(
            variant({"service_tier": "flex"}, constraint=night, input_mtok=1),
            variant({"service_tier": "flex"}, input_mtok="1.5"),
        )
    )
    million = Usage(input_tokens=1_000_000)
    for hour, dollars in ((21, 1.5), (22, 1), (5, 1), (6, 1.5)):
        at = datetime(2026, 11, 22, hour, tzinfo=UTC)
        assert rates.for_tier("flex").cost(million, at=at) == pytest.approx(dollars)
        assert rates.cost(million, at=at) == pytest.approx(2)


def test_a_condition_of_a_new_kind_costs_one_tier_its_price():
    @dataclass
    class PhaseOfTheMoon:
        def active(self, moment):
            return moment.day < 15

    rates = measure_model(
        a_model_with(
            variant({"service_tier": "flex"}, constraint=PhaseOfTheMoon(), input_mtok=1),
            variant({"processing": "batch"}, input_mtok=1),
        )
    )
    assert rates.tiers.keys() == {"batch"}
    assert rates.cost(Usage(input_tokens=1_000_000)) == pytest.approx(2)


def test_prices_for_something_else_than_a_tier_are_no_tier():
    rates = measure_model(
        a_model_with(
            variant({"route": "eu"}, input_mtok=1),
            variant({"service_tier": "flex", "region": "eu"}, input_mtok=1),
            variant({"service_tier": "default"}, input_mtok=1),
        )
    )
    assert rates.tiers == {}


# How they are measured


def test_all_tiers_come_with_one_child_process(monkeypatch):
    monkeypatch.delitem(sys.modules, "genai_prices")
    started, run = [], subprocess.run

    def counted(*arguments, **options):
        started.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    _rates.cache_clear()
    try:
        model = named("gpt-5.6-luna")
        costs = {tier: rates_for(model, tier).cost(USAGE) for tier in (None, "batch", "flex", "priority", "fast")}
        assert rates_for(model, "scale") is None
    finally:
        _rates.cache_clear()
    assert len(started) == 1
    assert costs["batch"] == costs["flex"] < costs[None] < costs["priority"] == costs["fast"]
