"""What can be said of prompts before any of them is asked: whether they are hits, and what a run would cost."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lm_deluge._loops import run_here
from lm_deluge.cache.responses import ResponseCache
from lm_deluge.engine import ClientState, RunOptions
from lm_deluge.engine import estimate as estimate_run
from lm_deluge.engine.settings import parameters_of
from lm_deluge.errors import ConfigError
from lm_deluge.prompt import PromptLike, as_conversation, as_prompts
from lm_deluge.prompt_cache import PATTERNS, Estimate, Pattern, PromptCache, as_prompt_cache

if TYPE_CHECKING:
    from lm_deluge.cache.explain import Explanation

__all__ = ["estimate", "explain"]


def explain(state: ClientState, cache: Any, prompt: PromptLike, options: RunOptions) -> "Explanation":
    """Why the local cache of a client has an answer to a prompt, or none. ``LLMClient.explain`` documents it."""
    if not isinstance(cache, ResponseCache):
        what = "no cache" if cache is None else f"a {type(cache).__name__}, which cannot be searched"
        raise ConfigError(f"The client has {what}. Give it one of lm_deluge.cache.")
    parameters = tuple(parameters_of(state.settings, options).values())
    return cache.explain(as_conversation(prompt), parameters, max_age=options.max_age)


def estimate(
    state: ClientState,
    prompts: PromptLike | Iterable[PromptLike],
    options: RunOptions,
    patterns: Pattern | PromptCache | Sequence[Pattern | PromptCache] | None,
    *,
    output_tokens: int | None,
) -> Estimate:
    """What a run of a client would cost. ``LLMClient.estimate`` documents it."""
    if len(state.settings.models) != 1:
        raise ConfigError("estimate() needs a client of one model; make one for each that you want to compare.")
    if output_tokens is not None and (type(output_tokens) is not int or output_tokens < 0):
        raise ConfigError(f"output_tokens={output_tokens!r} is no number of tokens; give a whole one, 0 or more.")
    if patterns is None:
        patterns = PATTERNS if options.prompt_cache is None else [options.prompt_cache]
    if isinstance(patterns, str | PromptCache):
        patterns = [patterns]
    caches = [cache for cache in map(as_prompt_cache, patterns) if cache is not None]

    async def run() -> Estimate:
        return await estimate_run(state.engine(), as_prompts(prompts), options, caches, output_tokens=output_tokens)

    return run_here(run)
