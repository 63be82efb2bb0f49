"""Costs agree with ``genai-prices`` for every kind of token, on every date, for every length of prompt."""

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import genai_prices
import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint, TimeOfDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

import lm_deluge
from lm_deluge.errors import LMDelugeError
from lm_deluge.models import SERVICES, rates_for, resolve
from lm_deluge.models.measurement import measure, measure_model
from lm_deluge.models.prices import _rates
from lm_deluge.models.rates import Rates
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
        rates = measure_model(model)
        assert rates.cost(USAGE, at=at) == pytest.approx(expected, rel=0, abs=1e-12), (provider.id, model.id)


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


def borders(model):
    """Moments just before and just at which another price list may begin, as read from the data."""
    days = {date(2026, 11, 22)}
    times = {time(0)}
    for conditional in model.prices:
        match conditional.constraint:
            case StartDateConstraint(start_date=day):
                days.add(day)
            case TimeOfDateConstraint(start_time=start, end_time=end):
                times |= {start, end}
    moments = [datetime.combine(day, each.replace(tzinfo=None), tzinfo=UTC) for day in days for each in times]
    return [moment + step for moment in moments for step in (-timedelta(microseconds=1), timedelta(0))]


def test_lists_change_at_the_very_moment():
    models = [(provider, model) for provider, model in priced_models() if isinstance(model.prices, list)]
    assert len(models) > 100
    some = [each for each in models if any(isinstance(c.constraint, TimeOfDateConstraint) for c in each[1].prices)]
    for provider, model in some + random.Random(0).sample(models, 40):
        rates = measure_model(model)
        for at in borders(model):
            expected = float(model.calc_price(told(USAGE), provider, genai_request_timestamp=at).total_price)
            elsewhere = at.astimezone(timezone(timedelta(hours=-9, minutes=-30)))
            for moment in (at, elsewhere, at.replace(tzinfo=None)):
                assert rates.cost(USAGE, at=moment) == pytest.approx(expected, rel=0, abs=1e-12), (model.id, at)


def a_model_with(*constraints):
    lists = [ModelPrice(input_mtok=Decimal(price + 1), output_mtok=Decimal(0)) for price in range(len(constraints))]
    model = next(model for _, model in priced_models())
    pairs = zip(constraints, lists, strict=True)
    return replace(model, prices=[ConditionalPrice(constraint=each, prices=prices) for each, prices in pairs])


def test_hours_over_midnight_and_in_another_zone():
    night = TimeOfDateConstraint(
        start_time=time(20, tzinfo=timezone(timedelta(hours=-5))), end_time=time(6, tzinfo=timezone(timedelta(hours=2)))
    )
    rates = measure_model(a_model_with(None, StartDateConstraint(start_date=date(2026, 3, 1)), night))

    def dollars(*moment):
        return rates.cost(Usage(input_tokens=1_000_000), at=datetime(*moment, tzinfo=UTC))

    assert dollars(2026, 2, 28, 12) == pytest.approx(1)
    assert dollars(2026, 3, 1, 12) == pytest.approx(2)
    assert dollars(2026, 2, 28, 1) == dollars(2026, 3, 1, 3, 59) == pytest.approx(3)  # from 1:00 to 4:00 UTC
    assert dollars(2026, 3, 1, 4) == dollars(2026, 3, 2, 0, 59) == pytest.approx(2)


def test_a_condition_of_a_new_kind_is_no_guess():
    @dataclass
    class PhaseOfTheMoon:
        def active(self, moment):
            return moment.day < 15

    with pytest.raises(LMDelugeError, match="PhaseOfTheMoon"):
        measure_model(a_model_with(None, PhaseOfTheMoon()))


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


# Measuring in a child process


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing is measured yet, and ``genai-prices`` counts as not imported here."""
    monkeypatch.delitem(sys.modules, "genai_prices")
    _rates.cache_clear()
    yield monkeypatch
    _rates.cache_clear()


def test_a_process_gets_prices_without_the_import():
    code = (
        "import sys; from lm_deluge.models import rates_for, resolve\n"
        "rates = [rates_for(resolve(name, environ={})) for name in sys.argv[1:]]\n"
        "assert not {'genai_prices', 'pydantic'} & set(sys.modules)\n"
        "import msgspec; sys.stdout.buffer.write(msgspec.json.encode(rates))"
    )
    names = ["deepseek/deepseek-reasoner", "gpt-5.6-luna", "openrouter/acme/nothing-like-it", "openai/whisper-1"]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, check=True, timeout=60)
    models = [named(name) for name in names]
    expected = [measure(model.service.price_provider, model.api_name) for model in models]
    assert msgspec.json.decode(done.stdout, type=list[Rates | None]) == expected
    assert expected[0] is not None
    assert expected[2:] == [None, None]


def test_the_way_from_the_child_changes_no_digit():
    for _, model in random.Random(1).sample(priced_models(), 100):
        rates = measure_model(model)
        assert msgspec.json.decode(msgspec.json.encode(rates), type=Rates) == rates


def a_program(place, text):
    program = place / "python3"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o700)
    return str(program)


@pytest.mark.parametrize("text", ["exit 1", "echo nonsense", "echo '{\"lists\": 7}'", "kill -9 $$", None])
def test_without_a_child_prices_are_measured_here(text, tmp_path, unmeasured):
    unmeasured.setattr(sys, "executable", a_program(tmp_path, text) if text else str(tmp_path / "python-is-gone"))
    assert rates_for(named("gpt-4.1-mini")) == measure("openai", "gpt-4.1-mini")


def test_the_child_is_isolated_and_sees_no_key(tmp_path, unmeasured):
    """It is found by the module path that it is given, and by nothing else."""
    seen = tmp_path / "seen"
    recorder = a_program(tmp_path, f'{{ env; echo ARGUMENTS $*; }} > {seen}; exec {sys.executable} "$@"')
    unmeasured.setattr(sys, "executable", recorder)
    for name in ("OPENAI_API_KEY", "LM_DELUGE_REDIS_PASSWORD", "SECRET_OF_SOMEBODY"):
        unmeasured.setenv(name, "hunter2-secret")
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    unmeasured.setenv("PYTHONPATH", str(tmp_path))
    unmeasured.setenv("PYTHONSTARTUP", str(tmp_path / "sitecustomize.py"))
    unmeasured.setattr(sys, "dont_write_bytecode", True)
    assert rates_for(named("gpt-4.1-mini")) == measure("openai", "gpt-4.1-mini")
    assert not (tmp_path / "ran").exists()
    said = seen.read_text()
    assert "ARGUMENTS -I -S -B -c" in said
    assert "PATH=" in said
    assert "hunter2" not in said
    assert "PYTHON" not in said


@pytest.mark.parametrize("flags", [["-I"], ["-E"], ["-P", "-E"]])
def test_a_child_runs_nothing_that_its_parent_keeps_out(flags, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"import os; open({str(tmp_path / 'ran')!r}, 'w')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from lm_deluge.models import rates_for, resolve\n"
        "assert rates_for(resolve('gpt-4.1-mini', environ={})); assert 'genai_prices' not in sys.modules"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    where = str(Path(lm_deluge.__file__).parents[1])
    command = [sys.executable, *flags, "-c", code, where]
    subprocess.run(command, env=environ, cwd=tmp_path, check=True, timeout=60)
    assert not (tmp_path / "ran").exists()


def test_a_name_that_no_command_line_can_hold(unmeasured):
    assert rates_for(named("openrouter/a\0b")) is None


@pytest.mark.parametrize("kind", ["frozen", "embedded", "unknown"])
def test_an_application_is_not_started_a_second_time(kind, tmp_path, unmeasured):
    started = tmp_path / "started"
    program = Path(a_program(tmp_path, f"touch {started}; exit 1"))
    if kind == "frozen":
        unmeasured.setattr(sys, "frozen", True, raising=False)
    else:
        program = program.rename(tmp_path / "uwsgi")
    unmeasured.setattr(sys, "executable", None if kind == "unknown" else str(program))
    assert rates_for(named("gpt-4.1-mini")) == measure("openai", "gpt-4.1-mini")
    assert not started.exists()


def test_prices_that_the_user_gave_genai_prices_count(monkeypatch):
    model = named("gpt-4.1-mini")
    snapshot = get_snapshot()
    provider, found = snapshot.find_provider_model(model.api_name, None, "openai", None)
    dear = replace(found, prices=ModelPrice(input_mtok=Decimal(1_000_000), output_mtok=Decimal(0)))
    own = replace(snapshot, providers=[replace(provider, models=[dear])], _lookup_cache={})
    monkeypatch.setattr("genai_prices.data_snapshot._custom_snapshot", own)
    _rates.cache_clear()
    try:
        assert rates_for(model).cost(Usage(input_tokens=1)) == 1.0
    finally:
        _rates.cache_clear()
