"""``deluge run``: its options. What it does is in ``execution``, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lm_deluge.cli import options
from lm_deluge.cli.values import parse_duration, parse_size

__all__ = ["run"]

_RECORD = "Record"


def run(
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS",
            help="JSON lines, - for standard input. A line is a text, a list of messages (OpenAI-style), or an object "
            "with either of them as one of: prompt, messages, question. All other fields, id among them, are not sent, "
            "but passed through to the results.",
            show_default=False,
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="Model to ask. Given several times, prompts are spread over them.",
            metavar="MODEL",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File of results. If it is there, only what is missing is asked.",
            metavar="FILE",
            show_default="stdout",
        ),
    ] = None,
    overwrite: Annotated[
        bool, options.flag("--overwrite", help="Start from scratch and replace what --out holds.")
    ] = False,
    field: options.Field = None,
    limit: options.Limit = None,
    samples: options.Samples = None,
    with_prompt: Annotated[bool, options.flag("--with-prompt", help="Repeat the prompt in each result.")] = False,
    progress: Annotated[
        Literal["rich", "tqdm", "manual", "none"],
        typer.Option(help="How progress is shown; manual is for logs, none leaves out the bill at the end too."),
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
        typer.Option(
            help="Another cache file, read where --cache has no answer, and never written.",
            rich_help_panel=options.LOCAL,
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            help="Largest size of the file (500MB, 2GB). Above it, the entries used longest ago are removed.",
            parser=parse_size,
            rich_help_panel=options.LOCAL,
            metavar="SIZE",
            show_default=False,
        ),
    ] = None,
    cache_key: options.CacheKey = None,
    scope: options.Scope = None,
    cache_mode: Annotated[
        Literal["use", "refresh", "bypass", "offline"] | None,
        typer.Option(
            help="use; refresh: ask again and store the answers; bypass: as if there were no cache; offline: send no "
            "request, so that a miss is an error that names the nearest entry. LM_DELUGE_CACHE_MODE sets the default.",
            rich_help_panel=options.LOCAL,
            metavar="MODE",
            show_default="use",
        ),
    ] = None,
    offline: Annotated[
        bool, options.flag("--offline", help="Short for --cache-mode offline.", rich_help_panel=options.LOCAL)
    ] = False,
    max_age: options.MaxAge = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            help="As --max-age, and the answers of this run may be removed from the cache after that time.",
            parser=parse_duration,
            metavar="AGE",
            rich_help_panel=options.LOCAL,
            show_default=False,
        ),
    ] = None,
    admit: Annotated[
        Literal["answers", "complete"] | None,
        typer.Option(
            help="What is stored: answers, or only those that are complete, not cut short.",
            rich_help_panel=options.LOCAL,
            metavar="WHICH",
            show_default="answers",
        ),
    ] = None,
    single_flight: options.SingleFlight = False,
    cache_pattern: Annotated[
        str | None,
        typer.Option(
            help=f"What the provider should cache: {options.PATTERN_NAMES}.",
            rich_help_panel=options.CACHING,
            metavar="PATTERN",
        ),
    ] = None,
    cache_lifetime: options.CacheLifetime = None,
    cache_warm: options.CacheWarm = None,
    cache_diagnostics: Annotated[
        bool,
        options.flag(
            "--cache-diagnostics",
            help="Have the provider say why a prompt was not read from its cache, if supported (Anthropic).",
            rich_help_panel=options.CACHING,
        ),
    ] = False,
    max_concurrent_requests: options.MaxConcurrentRequests = None,
    max_requests_per_minute: options.MaxRequestsPerMinute = None,
    max_tokens_per_minute: options.MaxTokensPerMinute = None,
    max_attempts: Annotated[
        int | None,
        typer.Option(help="Most calls for one prompt.", rich_help_panel=options.LIMITS, metavar="N", show_default="5"),
    ] = None,
    request_timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds for one call, to the last byte.",
            rich_help_panel=options.LIMITS,
            metavar="SECONDS",
            show_default="30",
        ),
    ] = None,
    give_up_after: Annotated[
        float | None,
        typer.Option(
            help="Seconds without any answer from a model after which the rows that are left get an error at once.",
            rich_help_panel=options.LIMITS,
            metavar="SECONDS",
            show_default="300",
        ),
    ] = None,
    run_name: Annotated[
        str | None,
        typer.Option(
            help="Name of the run in deluge cache stats.",
            rich_help_panel=_RECORD,
            metavar="NAME",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            help="Tag by which the run and its answers can be found. Several may be given.",
            rich_help_panel=_RECORD,
            metavar="TAG",
            show_default=False,
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
    from lm_deluge.cache.scope import scope_of
    from lm_deluge.cli.execution import execute
    from lm_deluge.cli.settings import RunSettings, check_needs, prompt_cache
    from lm_deluge.errors import ConfigError

    if offline and cache_mode not in (None, "offline"):
        raise ConfigError(f"--offline and --cache-mode {cache_mode} contradict each other.")
    check_needs(given, "cache", "cache_pattern")
    if offline:
        given["cache_mode"] = "offline"
    given["scope"] = scope_of(scope, otherwise="request")
    settings = RunSettings.of(
        given,
        out=None if str(out) == "-" else out,
        prompt_cache=prompt_cache(cache_pattern, given),
    )
    raise typer.Exit(execute(settings))
