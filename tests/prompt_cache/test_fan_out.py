"""Planner, prefix scheduler and prediction together: many-shot GSM8K, as a batch would send it."""

import pytest

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import Planner, PromptCache
from lm_deluge.schedule import PrefixScheduler
from lm_deluge.testing.dataset import gsm8k

from .predictions import predict

CONCURRENCY = 225


def many_shot(*, prefixes: int = 1) -> list[Conversation]:
    """All test rows behind the training rows as examples, in so many variants, interleaved."""
    examples = Conversation()
    for row in gsm8k("train"):
        examples = examples.user(row["question"]).ai(row["answer"])
    variants = [
        Conversation([Conversation.system(f"Solve, version {number}.").messages[0], *examples.messages])
        for number in range(prefixes)
    ]
    return [variants[number % prefixes].user(row["question"]) for number, row in enumerate(gsm8k())]


@pytest.mark.parametrize("name", ["claude-sonnet-4-5", "gpt-6.1-sol"])
@pytest.mark.parametrize("prefixes", [1, 8])
def test_each_prefix_is_written_once_and_read_by_everybody_else(name, prefixes):
    model = resolve(name, environ={})
    prompts = many_shot(prefixes=prefixes)
    planner = Planner(PromptCache(pattern="shared_prefix"), model)
    planner.learn(prompts)
    planned = [(prompt, planner.plan(prompt)) for prompt in prompts]

    scheduler: PrefixScheduler[int] = PrefixScheduler()
    turns = [scheduler.enter(plan.prefixes, 0.0, number) for number, (_, plan) in enumerate(planned)]
    leads = [number for number, turn in enumerate(turns) if turn.role == "lead"]
    assert leads == list(range(prefixes))
    woken = {each for number in leads for each in scheduler.began(turns[number], started=0.0, now=2.0)}
    assert woken == set(range(prefixes, len(prompts)))
    assert {scheduler.enter(planned[number][1].prefixes, 2.0, number).role for number in woken} == {"follow"}

    order = [planned[number] for number in [*leads, *sorted(woken)]]
    warm = predict(order, model)
    written = [usage.cache_write_tokens for usage in warm if usage.cache_write_tokens]
    assert len(written) == prefixes
    assert min(written) > 15_000
    assert sum(usage.has_cache_hit for usage in warm) == len(prompts) - prefixes
    cold = predict(planned, model, at_once=CONCURRENCY)
    # The first of each prefix is in flight until this many later ones have started.
    assert sum(usage.has_cache_write for usage in cold) == CONCURRENCY + prefixes - 1
