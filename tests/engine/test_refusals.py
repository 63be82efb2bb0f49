"""A provider that refuses, is down, or fails at times: how often it is asked, and how long a run takes to say so."""

import functools
import random

import pytest

from lm_deluge.errors import LimitWarning
from lm_deluge.events import CoolDown
from lm_deluge.schedule.health import Health
from lm_deluge.testing import Fault


@pytest.fixture
def rng():
    return random.Random(7)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_run_against_endless_refusals_ends_within_its_bound(make_timeline, status):
    timeline = make_timeline(faults=lambda request: Fault.error(status))
    client = timeline.client("gpt-4.1-mini", give_up_after=60)
    with pytest.warns(LimitWarning, match="No answer has come"):
        responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(600)], show_progress=False))
    assert [response.id for response in responses] == list(range(600))
    assert all(response.is_error for response in responses)
    assert timeline.clock.monotonic() < 60 + 35  # and the longest pause
    assert client.last_report.calls < 600  # each prompt made five of its own
    assert any("This prompt was not asked again" in response.error_message for response in responses)


def test_a_probe_finds_out_that_the_provider_is_back(make_timeline):
    answers = []

    def faults(request):
        answers.append(timeline.clock.monotonic())
        return Fault.error(429) if timeline.clock.monotonic() < 100 else None

    timeline = make_timeline(faults=faults)
    client = timeline.client("gpt-4.1-mini", give_up_after=300)
    responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(100)], show_progress=False))
    assert not any(response.is_error for response in responses)  # nobody used up his attempts meanwhile
    assert client.last_report.calls < 330
    assert timeline.clock.monotonic() < 165


def test_refusals_of_one_storm_are_one_pause(make_timeline):
    """Calls that were in flight when the first was refused say nothing new."""
    left = [100]

    def faults(request):
        left[0] -= 1
        return Fault.error(429) if left[0] >= 0 else None

    timeline = make_timeline(faults=faults)
    pauses = []
    client = timeline.client(
        "gpt-4.1-mini", listeners=[lambda event: pauses.append(event) if isinstance(event, CoolDown) else None]
    )
    responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(100)], show_progress=False))
    assert not any(response.is_error for response in responses)
    assert len(pauses) == 1
    assert timeline.clock.monotonic() < 12  # two answers of 5 s each, and a pause of a second


def test_random_refusals_do_not_stop_a_run(make_timeline, rng):
    timeline = make_timeline(faults=lambda request: Fault.error(429) if rng.random() < 0.3 else None)
    client = timeline.client("gpt-4.1-mini", max_concurrent_requests=225)
    responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(600)], show_progress=False))
    assert sum(response.is_error for response in responses) < 10
    assert timeline.clock.monotonic() < 50  # 15 without refusals


def test_a_new_run_asks_again(make_timeline):
    broken = [True]
    timeline = make_timeline(faults=lambda request: Fault.error(500) if broken[0] else None)
    client = timeline.client("gpt-4.1-mini", give_up_after=20)
    with pytest.warns(LimitWarning):
        timeline.run(client.process_prompts_async([f"q{n}" for n in range(40)], show_progress=False))
    broken[0] = False
    responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(40)], show_progress=False))
    assert not any(response.is_error for response in responses)


def test_one_at_a_time_after_the_second_pause(rng):
    health = Health(give_up_after=100)
    failed = {"refused": True, "asked": None, "rng": rng}
    assert health.wait(0) == 0
    assert 0.5 <= health.failed("no", sent=0, now=1, **failed) <= 1
    assert health.failed("no", sent=0.5, now=1.1, **failed) is None  # it was in flight when the pause began
    assert health.failed("no", sent=0.5, now=1.1, refused=True, asked=40, rng=rng) == 40
    assert 1 <= health.failed("no", sent=2, now=3, **failed) <= 2
    assert health.wait(5) == 0
    health.started(5)
    assert health.wait(5) > 0  # until the probe's outcome
    health.answered()
    assert health.wait(5) == 0
    assert health.gives_up_in(5) == float("inf")


def test_given_up_is_probed_now_and_then(rng):
    health = Health(give_up_after=10)
    for at in range(5):
        health.failed("no", sent=at, now=at + 0.5, refused=False, asked=None, rng=rng)
    assert not health.is_given_up(9.9)
    assert health.is_given_up(10)
    assert health.wait(10) == 0
    health.started(10)
    assert health.wait(10) == 15
    assert health.wait(25) == 0


@pytest.mark.parametrize("value", [0, -1])
def test_a_bound_without_meaning_is_refused(make_client, value):
    with pytest.raises(ValueError, match="give_up_after"):
        make_client(give_up_after=value)


def test_a_wrong_key_ends_a_run_after_a_few_calls(make_timeline):
    timeline = make_timeline(faults=lambda request: Fault.error(401))
    client = timeline.client("gpt-4.1-mini", max_concurrent_requests=10)
    with pytest.warns(LimitWarning, match="401"):
        responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(600)], show_progress=False))
    assert all(response.is_error for response in responses)
    assert client.last_report.calls < 40
    assert timeline.clock.monotonic() < 30


def test_prompts_that_are_refused_one_by_one_end_nothing(make_timeline):
    """A gateway answers 403 to each prompt that its moderation refuses."""
    timeline = make_timeline(faults=lambda request: Fault.error(403))
    client = timeline.client("gpt-4.1-mini")
    timeline.run(client.process_prompts_async([f"q{n}" for n in range(100)], show_progress=False))
    assert client.last_report.calls == 100


@pytest.mark.parametrize(
    ("asked", "give_up_after", "waited"), [(400, 600, 400), (300, 300, 300), (3_600, None, 600), (600, 600, 600)]
)
def test_what_a_provider_asks_for_is_waited_for(make_timeline, asked, give_up_after, waited):
    """Up to ten minutes, also where every call of a burst is refused."""
    timeline = make_timeline()
    timeline.app.script.extend([Fault.error(429, retry_after=asked)] * 20)
    client = timeline.client("gpt-4.1-mini", give_up_after=give_up_after)
    responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(20)], show_progress=False))
    assert not any(response.is_error for response in responses), responses[0].error_message
    assert client.last_report.calls == 40
    assert waited < timeline.clock.monotonic() < waited + 20


def test_what_is_longer_than_give_up_after_fails_and_says_so(make_timeline):
    timeline = make_timeline()
    timeline.app.script.extend([Fault.error(429, retry_after=400)])
    client = timeline.client("gpt-4.1-mini", max_concurrent_requests=1)
    with pytest.warns(LimitWarning, match="asks for a pause of 6 min 40 s"):
        responses = timeline.run(client.process_prompts_async(["one", "two", "three"], show_progress=False))
    for response in responses:
        assert response.is_error
        assert "6 min 40 s" in response.error_message
        assert "longer than give_up_after allows: 5 min 0 s" in response.error_message
    assert client.last_report.calls == 1
    assert timeline.clock.monotonic() < 10


def test_a_refusal_for_long_counts_for_later_runs_until_it_is_over(make_timeline):
    timeline = make_timeline()
    timeline.app.script.extend([Fault.error(429, retry_after=400)])
    client = timeline.client("gpt-4.1-mini")

    async def main():
        run = functools.partial(client.process_prompts_async, show_progress=False)
        (first,) = await run(["one"])
        await timeline.clock.sleep(100)
        (second,) = await run(["two"])
        await timeline.clock.sleep(301)
        (third,) = await run(["three"])
        return first, second, third

    with pytest.warns(LimitWarning, match="Run it again in 5 min 0 s"):
        first, second, third = timeline.run(main())
    assert (first.is_error, second.is_error, third.is_error) == (True, True, False)


def test_a_refusal_for_long_is_one_models(make_timeline):
    refusal = Fault.error(429, retry_after=400)
    timeline = make_timeline(faults=lambda request: refusal if request.json["model"] == "gpt-4.1-mini" else None)
    client = timeline.client(["gpt-4.1-mini", "gpt-4.1-nano"], max_concurrent_requests=20)
    responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(100)], show_progress=False))
    assert sum(not response.is_error for response in responses) >= 70
    assert timeline.clock.monotonic() < 60


def test_a_provider_that_asks_again_and_again_is_given_up_all_the_same(make_timeline):
    timeline = make_timeline(faults=lambda request: Fault.error(429, retry_after=50))
    client = timeline.client("gpt-4.1-mini", give_up_after=60)
    with pytest.warns(LimitWarning, match="No answer has come"):
        responses = timeline.run(client.process_prompts_async([f"q{n}" for n in range(50)], show_progress=False))
    assert all(response.is_error for response in responses)
    assert timeline.clock.monotonic() < 60 + 95
