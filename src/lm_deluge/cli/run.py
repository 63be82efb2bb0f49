"""``deluge run``: its options. What it does is in ``job``, which is imported when it is needed."""

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["run"]

_MODEL = "Model"
_LIMITS = "Limits and retries"
_CACHING = "Caching"


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
        Path | None,
        typer.Option(
            help="Local cache, an SQLite file: no prompt in it is paid again, whatever model answered it.",
            rich_help_panel=_CACHING,
            metavar="FILE",
        ),
    ] = None,
    cache_key: Annotated[
        str | None,
        typer.Option(
            help="Namespace within the local cache, to keep the answers of models apart.",
            rich_help_panel=_CACHING,
            metavar="NAME",
        ),
    ] = None,
    cache_pattern: Annotated[
        str | None,
        typer.Option(
            help="The provider's prompt cache: system_and_tools, tools_only, last_user_message, "
            "last_2_user_messages, last_3_user_messages or automatic.",
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
) -> None:
    """Ask a model each prompt of a file and write the answers as JSON lines.

    Answers are written as they arrive, each with the index of its row.
    A run that was interrupted, even killed, goes on when it is started again
    with the same --out: answers are kept, rows with errors are asked again.

    Exit codes: 0 all answered, 1 some rows have errors, 2 not done as asked,
    130 interrupted.
    """
    from lm_deluge.cli.job import Job, execute

    given = {
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
    }
    job = Job(
        source=_unless_dash(prompts),
        out=None if out is None else _unless_dash(out),
        overwrite=overwrite,
        field=field,
        limit=limit,
        system=system,
        tools=tools,
        pattern=cache_pattern,
        cache=cache,
        cache_key=cache_key,
        progress=progress,
        client={name: value for name, value in given.items() if value is not None},
    )
    raise typer.Exit(execute(job))


def _unless_dash(path: Path) -> Path | None:
    return None if str(path) == "-" else path
