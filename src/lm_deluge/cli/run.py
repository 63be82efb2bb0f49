"""``deluge run``: its options. What it does is in ``job``, which is imported when it is needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lm_deluge.cli.values import parse_duration, parse_size

__all__ = ["run"]

_MODEL = "Model"
_LIMITS = "Limits and retries"
_LOCAL = "Local cache"
_CACHING = "Provider's prompt cache"
_RECORD = "Record"


def run(
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS",
            help="JSON lines, - for standard input. A line is a text, or an object with one of: prompt (text or "
            "messages), messages (OpenAI-style), question. Its id and other fields are passed through.",
            show_default=False,
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "--model", "-m", help="Model to ask. Given several times, prompts are spread over them.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File of results. If it is there, only what is missing is asked.", show_default="stdout"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, whatever --out holds.")] = False,
    field: Annotated[str | None, typer.Option(help="The field that holds the prompt.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(help="Read the first N rows only.", min=1, metavar="N")] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Independent answers for each prompt, numbered from 0 in the results. Asking for 8 after 5 buys 3.",
            min=1,
            metavar="N",
        ),
    ] = None,
    with_prompt: Annotated[bool, typer.Option("--with-prompt", help="Repeat the prompt in each result.")] = False,
    progress: Annotated[
        Literal["rich", "tqdm", "manual", "none"], typer.Option(help="How progress is shown; manual is for logs.")
    ] = "rich",
    system: Annotated[
        str | None,
        typer.Option(help="System message for prompts that have none.", rich_help_panel=_MODEL, metavar="TEXT"),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.", rich_help_panel=_MODEL)] = None,
    top_p: Annotated[float | None, typer.Option(help="Above 0, up to 1.", rich_help_panel=_MODEL)] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens to generate.", rich_help_panel=_MODEL)] = None,
    json_mode: Annotated[bool, typer.Option("--json-mode", help="Ask for JSON.", rich_help_panel=_MODEL)] = False,
    reasoning_effort: Annotated[
        str | None,
        typer.Option(help="none, minimal, low, medium, high, xhigh or max.", rich_help_panel=_MODEL, metavar="EFFORT"),
    ] = None,
    tools: Annotated[
        Path | None, typer.Option(help="JSON file with a list of tools.", rich_help_panel=_MODEL, metavar="FILE")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Server to ask instead of the provider's.", rich_help_panel=_MODEL, metavar="URL")
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="Local cache: no prompt in it is paid again. An SQLite file, a LevelDB directory, or a redis:// URL.",
            rich_help_panel=_LOCAL,
            metavar="STORE",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Another cache file, read where --cache has no answer, and never written.",
            rich_help_panel=_LOCAL,
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            help="Size of the file (500MB, 2GB) above which what was used longest ago is removed.",
            parser=parse_size,
            rich_help_panel=_LOCAL,
            metavar="SIZE",
            show_default=False,
        ),
    ] = None,
    cache_key: Annotated[
        str | None,
        typer.Option(help="Namespace within it, to keep answers apart.", rich_help_panel=_LOCAL, metavar="NAME"),
    ] = None,
    scope: Annotated[
        Literal["conversation", "request"] | None,
        typer.Option(
            help="What a hit has to have in common: the conversation alone, whatever model answered it, or the model "
            "and all parameters too (request).",
            rich_help_panel=_LOCAL,
            metavar="SCOPE",
            show_default="conversation",
        ),
    ] = None,
    cache_mode: Annotated[
        Literal["use", "refresh", "bypass", "offline"] | None,
        typer.Option(
            help="use; refresh: ask anew and store what comes; bypass: as if there were none; or offline: ask nobody, "
            "so a miss is an error that names the nearest entry. The environment variable LM_DELUGE_CACHE_MODE says it "
            "where this does not.",
            rich_help_panel=_LOCAL,
            metavar="MODE",
            show_default="use",
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Short for --cache-mode offline.", rich_help_panel=_LOCAL)
    ] = False,
    max_age: Annotated[
        float | None,
        typer.Option(
            help="Older answers count as misses: 90s, 15m, 12h, 7d, 2w.",
            parser=parse_duration,
            metavar="AGE",
            rich_help_panel=_LOCAL,
            show_default=False,
        ),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            help="The same, and answers that are stored now may be removed after it.",
            parser=parse_duration,
            metavar="AGE",
            rich_help_panel=_LOCAL,
            show_default=False,
        ),
    ] = None,
    admit: Annotated[
        Literal["answers", "complete"] | None,
        typer.Option(
            help="What is stored: answers, or only those that are complete, not cut short.",
            rich_help_panel=_LOCAL,
            metavar="WHICH",
            show_default="answers",
        ),
    ] = None,
    single_flight: Annotated[
        bool,
        typer.Option(
            "--single-flight",
            help="The same prompt is asked once at a time, by all who share the cache.",
            rich_help_panel=_LOCAL,
        ),
    ] = False,
    cache_pattern: Annotated[
        str | None,
        typer.Option(
            help="What it should keep: system_and_tools, tools_only, last_user_message, last_2_user_messages, "
            "last_3_user_messages or automatic.",
            rich_help_panel=_CACHING,
            metavar="PATTERN",
        ),
    ] = None,
    max_concurrent_requests: Annotated[
        int | None, typer.Option(help="Calls under way at once.", rich_help_panel=_LIMITS, show_default="225")
    ] = None,
    max_requests_per_minute: Annotated[
        int | None, typer.Option(help="Calls started in a minute.", rich_help_panel=_LIMITS, show_default="1000")
    ] = None,
    max_tokens_per_minute: Annotated[
        int | None, typer.Option(help="Tokens in a minute.", rich_help_panel=_LIMITS, show_default="100000")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(help="Calls for one prompt.", rich_help_panel=_LIMITS, show_default="5")
    ] = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds for one call.", rich_help_panel=_LIMITS, show_default="30")
    ] = None,
    run_name: Annotated[
        str | None,
        typer.Option(
            help="What to call the run in the cache's account of it.", rich_help_panel=_RECORD, metavar="NAME"
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            help="A word to find the run and its answers by. Several may be given.",
            rich_help_panel=_RECORD,
            metavar="TAG",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Ask a model each prompt of a file and write the answers as JSON lines.

    Answers are written as they arrive, each with the index of its row.
    A run that was interrupted, even killed, goes on when it is started again
    with the same --out: answers are kept, rows with errors are asked again.

    Exit codes: 0 all answered, 1 some rows have errors, 2 not done as asked,
    130 interrupted, 143 told to end by SIGTERM.

    Examples:
      deluge run prompts.jsonl -m gpt-4.1-mini -o out.jsonl --cache my.db
      deluge run prompts.jsonl -m gpt-4.1-mini --cache my.db --offline
    """
    from lm_deluge.cli.job import Job, execute
    from lm_deluge.errors import ConfigError

    if offline and cache_mode not in (None, "offline"):
        raise ConfigError(f"--offline and --cache-mode {cache_mode} contradict each other.")
    of_cache = {
        "base": base,
        "max_bytes": max_bytes,
        "cache_key": cache_key,
        "scope": scope,
        "admit": admit,
        "ttl": ttl,
        "cache_mode": "offline" if offline else cache_mode,
        "max_age": max_age,
        "run_name": run_name,
        "tags": tag or None,
    }
    if cache is None:
        needless = [name for name, value in of_cache.items() if value is not None]
        if needless:
            option = {"tags": "--tag"}.get(needless[0], f"--{needless[0].replace('_', '-')}")
            raise ConfigError(f"{'--offline' if offline and needless[0] == 'cache_mode' else option} needs --cache.")
    client = {
        "model_names": model,
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "json_mode": json_mode or None,
        "reasoning_effort": reasoning_effort,
        "base_url": base_url,
        "max_concurrent_requests": max_concurrent_requests,
        "max_requests_per_minute": max_requests_per_minute,
        "max_tokens_per_minute": max_tokens_per_minute,
        "max_attempts": max_attempts,
        "request_timeout": request_timeout,
        "single_flight": single_flight or None,
    }
    job = Job(
        source=_unless_dash(prompts),
        out=None if out is None else _unless_dash(out),
        overwrite=overwrite,
        field=field,
        limit=limit,
        with_prompt=with_prompt,
        system=system,
        tools=tools,
        samples=samples,
        pattern=cache_pattern,
        cache=cache,
        store=_given(of_cache, "base", "max_bytes", "cache_key", "scope", "admit", "ttl"),
        progress=progress,
        client=_given(client, *client),
        call=_given(of_cache, "cache_mode", "max_age", "run_name", "tags"),
    )
    raise typer.Exit(execute(job))


def _unless_dash(path: Path) -> Path | None:
    return None if str(path) == "-" else path


def _given(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of the values that the user gave; for the others, the library's own defaults hold."""
    return {name: values[name] for name in names if values[name] is not None}
