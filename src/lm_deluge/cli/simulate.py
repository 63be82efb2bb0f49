"""``deluge simulate``: its options. What it does is in ``simulation``, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from lm_deluge.cli import options

__all__ = ["simulate"]


def simulate(
    prompts: Annotated[Path, options.argument("PROMPTS", "JSON lines as deluge run takes them, - for standard input.")],
    model: Annotated[list[str], options.option("MODEL", "Model that would be asked.", "--model", "-m")],
    output_tokens: Annotated[
        int | None,
        options.option("N", "Tokens of an average answer. Without it, the bill is for the prompts alone.", min=0),
    ] = None,
    field: options.Field = None,
    limit: options.Limit = None,
    samples: options.Samples = None,
    as_json: options.AsJson = False,
    system: options.System = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    max_new_tokens: options.MaxNewTokens = None,
    json_mode: options.JsonMode = False,
    reasoning_effort: options.ReasoningEffort = None,
    tools: options.Tools = None,
    base_url: options.BaseUrl = None,
    cache: options.Cache = None,
    cache_key: options.CacheKey = None,
    scope: options.Scope = None,
    max_age: options.MaxAge = None,
    single_flight: options.SingleFlight = False,
    cache_pattern: Annotated[
        list[str] | None,
        options.option(
            "PATTERN",
            f"Compare this pattern with none, instead of all: {options.PATTERN_NAMES}. Several may be given.",
            panel=options.CACHING,
        ),
    ] = None,
    cache_lifetime: options.CacheLifetime = None,
    cache_warm: options.CacheWarm = None,
    max_concurrent_requests: options.MaxConcurrentRequests = None,
    max_requests_per_minute: options.MaxRequestsPerMinute = None,
    max_tokens_per_minute: options.MaxTokensPerMinute = None,
) -> None:
    """Estimate what a run would cost with each pattern of the provider's prompt cache.

    No request is sent, no key is needed, and nothing changes. Give the options
    that the run will have: what the local cache answers costs nothing, and
    the limits decide which requests can read what others have written.

    Exit codes: 0 done, 1 no row can be asked, 2 not done as asked.

    Examples:
      deluge simulate prompts.jsonl -m claude-haiku-4-5 --output-tokens 300
      deluge simulate prompts.jsonl -m gpt-5.6 --cache-pattern shared_prefix
    """
    given = locals()
    from lm_deluge.cli.settings import check_needs, prompt_cache
    from lm_deluge.cli.simulation import Simulation, carry_out
    from lm_deluge.errors import ConfigError
    from lm_deluge.prompt_cache import PATTERNS

    if len(model) > 1:
        raise ConfigError("A bill is that of one model: give --model once, and simulate each by itself.")
    check_needs(given, "cache")
    caches = (prompt_cache(pattern, given) for pattern in dict.fromkeys(cache_pattern or PATTERNS))
    raise typer.Exit(carry_out(Simulation.of(given, patterns=tuple(filter(None, caches)))))
