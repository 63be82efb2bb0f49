"""The short forms of the stress programs. ``make test-long`` plays more rounds; the programs say what they count."""

import subprocess
import sys

import pytest

from lm_deluge.testing import Fault

from . import closing, driving, endings, interrupts, workers
from .rounds import Result

ABRUPT = "sigterm"  # its leases run out, which takes six seconds
WAYS = [way.name for way in endings.WAYS if way.name != ABRUPT]
BOUND = 360.0
"""Seconds in which a run without a single answer has stopped asking: five minutes, and what its last calls take."""


def bad(results: list[Result]) -> list[str]:
    return [f"{each.plan.round.name} {each.plan.way}: {each}" for each in results if each.is_bad]


@pytest.mark.parametrize("part", [0, 1])
def test_runs_that_are_left_cost_what_was_in_flight_and_nothing_else(part):
    ways = WAYS[part::2]
    results = endings.play(len(ways), seed=part, ways=ways, short=True)
    assert len(results) == len(ways)
    assert bad(results) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_many_runs_that_are_left(seed):
    assert bad(endings.play(400, seed=seed, busy=2)) == []


@pytest.mark.parametrize("way", interrupts.WAYS)
def test_interrupts(way):
    each = 2 if way == interrupts.WAYS[-1] else 6
    results = interrupts.play(each, seed=1, lanes=1, busy=0, ways=[way])
    assert len(results) == each
    assert bad(results) == []


@pytest.mark.long
def test_many_interrupts():
    assert bad(interrupts.play(400, seed=2, lanes=2, busy=2)) == []


def test_closing_waits_for_what_has_arrived_and_nothing_more_is_asked():
    results = closing.play(2, prompts=200, seed=3)
    assert len(results) == 6
    assert bad(results) == []


@pytest.mark.parametrize(
    ("fault", "prompts"),
    [
        (Fault.rate_limit(retry_after=10), 30),
        (Fault.rate_limit(retry_after=None), 60),
        (Fault.overloaded(), 50),
        (Fault.error(500), 100),
        (Fault.error(401), 500),
    ],
    ids=["429", "429 without a hint", "overloaded", "500", "401"],
)
def test_a_run_that_gets_no_answer_stops_asking(make_timeline, fault, prompts):
    timeline = make_timeline(latency=0.05, faults=lambda request: fault)
    client = timeline.client("gpt-4.1-mini", max_requests_per_minute=60)
    responses = timeline.run(
        client.process_prompts_async([f"p{number}" for number in range(prompts)], show_progress=False)
    )
    assert [response.id for response in responses] == list(range(prompts))
    assert all(response.is_error for response in responses)
    assert timeline.clock.monotonic() <= BOUND


def test_a_run_whose_provider_comes_back_gets_its_answers(make_timeline):
    """Twenty seconds of refusals are a bad moment, and no reason to give up prompts that were still to be asked."""
    timeline = make_timeline(
        latency=0.05, faults=lambda request: Fault.error(503) if 5 < timeline.clock.monotonic() < 25 else None
    )
    client = timeline.client("gpt-4.1-mini", max_requests_per_minute=120)
    responses = timeline.run(client.process_prompts_async([f"p{n}" for n in range(200)], show_progress=False))
    assert not any(response.is_error for response in responses)


CASES = [
    "listener, SystemExit, memory",
    "listener, Panic, sqlite",
    "sent, CancelledError",
    "put, CancelledError, mapping",
    "put, Panic, object",
    "main thread ends",
    "executor full",
    "first second",
]


@pytest.mark.parametrize("case", CASES)
def test_whatever_ends_a_worker_every_prompt_has_its_response(case):
    results = workers.play([case], kills=2)
    assert len(results) == 2
    assert [f"{each.case.title}: {each.wrong or each}" for each in results if each.is_bad] == []


def run_forks(*arguments: str) -> str:
    """Forking is done by a process of its own, for this one has threads of other tests."""
    command = [sys.executable, "-m", "tests.stress.forks", "--busy", "0", *arguments]
    done = subprocess.run(
        command, env=driving.environment(), cwd=driving.ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_no_forked_child_waits_for_a_lock_of_its_parent():
    assert "children 24" in run_forks("--forks", "24", "--replaced", "0")


def test_a_cache_file_that_is_replaced_while_in_use_keeps_what_it_holds():
    assert "files 1" in run_forks("--forks", "0", "--replaced", "1")
