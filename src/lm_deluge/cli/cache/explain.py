"""``deluge cache explain``: why is this a hit, or a miss?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lm_deluge.cli.cache.options import AsJson, StorePlace
from lm_deluge.cli.values import parse_duration

__all__ = ["explain"]

_ASKED = "What is asked"


def explain(
    store: StorePlace,
    prompts: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PROMPTS]",
            help="Rows as deluge run takes them, - for standard input; or one prompt with --prompt.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="One prompt.", metavar="TEXT", show_default=False)
    ] = None,
    misses: Annotated[bool, typer.Option("--misses", help="Leave hits out.")] = False,
    nearest: Annotated[int, typer.Option(help="How many near entries to show for a miss.", min=0, metavar="N")] = 3,
    search: Annotated[
        int, typer.Option(help="How many entries to search for them, the newest first.", min=0, metavar="N")
    ] = 20_000,
    field: Annotated[str | None, typer.Option(help="The field that holds the prompt.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(help="Read the first N rows only.", min=1, metavar="N")] = None,
    cache_key: Annotated[
        str, typer.Option(help="Namespace within the cache.", rich_help_panel=_ASKED, metavar="NAME")
    ] = "default",
    scope: Annotated[
        Literal["conversation", "request"],
        typer.Option(help="What keys are made from; request needs --model.", rich_help_panel=_ASKED),
    ] = "conversation",
    sample: Annotated[
        int, typer.Option(help="Which of several answers, from 0.", rich_help_panel=_ASKED, min=0, metavar="N")
    ] = 0,
    max_age: Annotated[
        float | None,
        typer.Option(
            help="Older answers count as misses: 90s, 15m, 12h, 7d, 2w.",
            parser=parse_duration,
            rich_help_panel=_ASKED,
            metavar="AGE",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model to ask.", rich_help_panel=_ASKED, show_default=False),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(help="System message for prompts that have none.", rich_help_panel=_ASKED, metavar="TEXT"),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.", rich_help_panel=_ASKED)] = None,
    top_p: Annotated[float | None, typer.Option(help="Above 0, up to 1.", rich_help_panel=_ASKED)] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens to generate.", rich_help_panel=_ASKED)] = None,
    json_mode: Annotated[bool, typer.Option("--json-mode", help="Ask for JSON.", rich_help_panel=_ASKED)] = False,
    reasoning_effort: Annotated[
        str | None, typer.Option(help="As in deluge run.", rich_help_panel=_ASKED, metavar="EFFORT")
    ] = None,
    tools: Annotated[
        Path | None, typer.Option(help="JSON file with a list of tools.", rich_help_panel=_ASKED, metavar="FILE")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Server that is asked.", rich_help_panel=_ASKED, metavar="URL")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether prompts are in a cache, and if not, what is nearest.

    Nobody is asked, and nothing changes. Give the options that the run has:
    where they are not part of the key, differences are shown all the same.

    Examples:
      deluge cache explain my_cache.db --prompt 'What is 2+2?'
      deluge cache explain my_cache.db prompts.jsonl --misses --limit 10
    """
    from lm_deluge.cli.cache.explaining import Question, answer

    sampling = {
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "json_mode": json_mode or None,
        "reasoning_effort": reasoning_effort,
        "base_url": base_url,
    }
    answer(
        Question(
            store=store,
            source=prompts,
            prompt=prompt,
            field=field,
            limit=limit,
            system=system,
            models=tuple(model or ()),
            client={name: value for name, value in sampling.items() if value is not None},
            tools=tools,
            namespace=cache_key,
            scope=scope,
            sample=sample,
            max_age=max_age,
            misses=misses,
            nearest=nearest,
            search=search,
            as_json=as_json,
        )
    )
