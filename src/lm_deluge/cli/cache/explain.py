"""``deluge cache explain``: why is this a hit, or a miss?"""

from pathlib import Path
from typing import Annotated

from lm_deluge.cli import options
from lm_deluge.cli.cache.options import StorePlace

__all__ = ["explain"]


def explain(
    store: StorePlace,
    prompts: Annotated[
        Path | None,
        options.argument(
            "PROMPTS", "Rows as deluge run takes them, - for standard input; or one prompt with --prompt."
        ),
    ] = None,
    prompt: Annotated[str | None, options.option("TEXT", "One prompt.", "--prompt", "-p")] = None,
    misses: Annotated[bool, options.flag("--misses", "Leave hits out.")] = False,
    nearest: Annotated[int, options.option("N", "How many near entries to show for a miss.", min=0)] = 3,
    search: Annotated[
        int, options.option("N", "How many entries to search for them, the newest first.", min=0)
    ] = 20_000,
    field: options.Field = None,
    limit: options.Limit = None,
    model: Annotated[
        list[str] | None,
        options.option("MODEL", "Model of the run. Several may be given.", "--model", "-m", panel=options.MODEL),
    ] = None,
    system: options.System = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    max_new_tokens: options.MaxNewTokens = None,
    json_mode: options.JsonMode = False,
    reasoning_effort: options.ReasoningEffort = None,
    tools: options.Tools = None,
    base_url: options.BaseUrl = None,
    cache_key: options.CacheKey = None,
    scope: options.Scope = None,
    sample: Annotated[int, options.option("N", "Which of several answers, from 0.", panel=options.LOCAL, min=0)] = 0,
    max_age: options.MaxAge = None,
    as_json: options.AsJson = False,
) -> None:
    """Say whether prompts are in a cache, and if not, what is nearest.

    No call is made, and nothing changes. Give the options that the run has;
    without --model, any answer to the conversation counts.

    Examples:
      deluge cache explain my_cache.db --prompt 'What is 2+2?'
      deluge cache explain my_cache.db prompts.jsonl --misses --limit 10
    """
    given = locals()
    from lm_deluge.cli.cache.explanation import Question, answer
    from lm_deluge.errors import ConfigError

    if (prompts is None) == (prompt is None):
        raise ConfigError("Give either a file of prompts or --prompt TEXT.")
    answer(Question.of(given, cache=store))
