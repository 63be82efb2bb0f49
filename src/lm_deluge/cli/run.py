"""``deluge run``: its options. What it does is in ``execution``, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lm_deluge.cli import options
from lm_deluge.cli.values import parse_duration, parse_seconds, parse_size

__all__ = ["run"]

_RECORD = "Record"


def run(
    prompts: Annotated[
        Path,
        options.argument(
            "PROMPTS",
            "JSON lines, - for standard input. A line is a text, a list of messages (OpenAI-style), or an object "
            "with either of them as one of: prompt, messages, question. All other fields, id among them, are not sent, "
            "but passed through to the results.",
        ),
    ],
    model: Annotated[
        list[str],
        options.option("MODEL", "Model to ask. Given several times, prompts are spread over them.", "--model", "-m"),
    ],
    out: Annotated[
        Path | None,
        options.option(
            "FILE",
            "File of results. If it is there, only what is missing is asked.",
            "--out",
            "-o",
            show_default="stdout",
        ),
    ] = None,
    overwrite: Annotated[bool, options.flag("--overwrite", "Start from scratch and replace what --out holds.")] = False,
    field: options.Field = None,
    limit: options.Limit = None,
    samples: options.Samples = None,
    with_prompt: Annotated[bool, options.flag("--with-prompt", "Repeat the prompt in each result.")] = False,
    progress: Annotated[
        Literal["rich", "tqdm", "manual", "none"],
        options.option(None, "How progress is shown; manual is for logs, none leaves out the bill at the end too."),
    ] = "rich",
    system: options.System = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    max_new_tokens: options.MaxNewTokens = None,
    json_mode: options.JsonMode = False,
    reasoning_effort: options.ReasoningEffort = None,
    tools: options.Tools = None,
    base_url: options.BaseUrl = None,
    cache: options.Cache = None,
    base: Annotated[
        str | None,
        options.option(
            "FILE", "Another cache file, read where --cache has no answer, and never written.", panel=options.LOCAL
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        options.option(
            "SIZE",
            "Largest size of the file (500MB, 2GB). Above it, the entries used longest ago are removed.",
            panel=options.LOCAL,
            parser=parse_size,
        ),
    ] = None,
    cache_key: options.CacheKey = None,
    scope: options.Scope = None,
    cache_mode: Annotated[
        Literal["use", "refresh", "bypass", "offline"] | None,
        options.option(
            "MODE",
            "use; refresh: ask again and store the answers; bypass: as if there were no cache; offline: send no "
            "request, so that a miss is an error that names the nearest entry. LM_DELUGE_CACHE_MODE sets the default.",
            panel=options.LOCAL,
            show_default="use",
        ),
    ] = None,
    offline: Annotated[bool, options.flag("--offline", "Short for --cache-mode offline.", panel=options.LOCAL)] = False,
    max_age: options.MaxAge = None,
    ttl: Annotated[
        float | None,
        options.option(
            "AGE",
            "As --max-age, and the answers of this run may be removed from the cache after that time.",
            panel=options.LOCAL,
            parser=parse_duration,
        ),
    ] = None,
    admit: Annotated[
        Literal["answers", "complete"] | None,
        options.option(
            "WHICH",
            "What is stored: answers, or only those that are complete, not cut short.",
            panel=options.LOCAL,
            show_default="answers",
        ),
    ] = None,
    single_flight: options.SingleFlight = False,
    cache_pattern: Annotated[
        str | None,
        options.option("PATTERN", f"What the provider should cache: {options.PATTERN_NAMES}.", panel=options.CACHING),
    ] = None,
    cache_lifetime: options.CacheLifetime = None,
    cache_warm: options.CacheWarm = None,
    cache_diagnostics: Annotated[
        bool,
        options.flag(
            "--cache-diagnostics",
            "Have the provider say why a prompt was not read from its cache, if supported (Anthropic).",
            panel=options.CACHING,
        ),
    ] = False,
    max_concurrent_requests: options.MaxConcurrentRequests = None,
    max_requests_per_minute: options.MaxRequestsPerMinute = None,
    max_tokens_per_minute: options.MaxTokensPerMinute = None,
    max_attempts: Annotated[
        int | None, options.option("N", "Most calls for one prompt.", panel=options.LIMITS, show_default="5")
    ] = None,
    request_timeout: Annotated[
        float | None,
        options.option(
            "SECONDS",
            "Seconds for one call, to the last byte.",
            panel=options.LIMITS,
            show_default="30",
            parser=parse_seconds,
        ),
    ] = None,
    give_up_after: Annotated[
        float | None,
        options.option(
            "SECONDS",
            "Seconds without any answer from a model after which the rows that are left get an error at once.",
            panel=options.LIMITS,
            show_default="300",
            parser=parse_seconds,
        ),
    ] = None,
    run_name: Annotated[
        str | None, options.option("NAME", "Name of the run in deluge cache stats.", panel=_RECORD)
    ] = None,
    tag: Annotated[
        list[str] | None,
        options.option(
            "TAG", "Tag by which the run and its answers can be found. Several may be given.", panel=_RECORD
        ),
    ] = None,
) -> None:
    """Ask a model each prompt of a file and write the answers as JSON lines.

    Answers are written as they arrive, each with the index of its row.
    A run that was interrupted or killed continues when it is started again
    with the same --out: answers are kept, rows with errors are asked again.

    Exit codes: 0 all answered, 1 some rows have errors, 2 not done as asked,
    130 interrupted, 143 told to end by SIGTERM.

    Examples:
      deluge run prompts.jsonl -m gpt-4.1-mini -o out.jsonl --cache my.db
      deluge run prompts.jsonl -m gpt-4.1-mini --cache my.db --offline
      deluge run prompts.jsonl -m claude-haiku-4-5 --cache-pattern shared_prefix
    """
    given = locals()
    from lm_deluge.cli.execution import execute
    from lm_deluge.cli.settings import RunSettings, check_needs, prompt_cache
    from lm_deluge.errors import ConfigError

    if offline and cache_mode not in (None, "offline"):
        raise ConfigError(f"--offline and --cache-mode {cache_mode} contradict each other.")
    check_needs(given, "cache", "cache_pattern")
    if offline:
        given["cache_mode"] = "offline"
    settings = RunSettings.of(
        given, out=None if str(out) == "-" else out, prompt_cache=prompt_cache(cache_pattern, given)
    )
    raise typer.Exit(execute(settings))
