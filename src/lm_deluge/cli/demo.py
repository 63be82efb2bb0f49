"""``deluge demo``: the main use, shown against a local emulator. What it prints as code is the code that it runs."""

import inspect
import os
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

from lm_deluge.cli.options import option

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from rich.console import Console

    from lm_deluge.events import RunReport

__all__ = ["demo"]

NO_LIMITS: dict[str, Any] = {"max_requests_per_minute": 1_000_000, "max_tokens_per_minute": 1_000_000_000}


def demo(
    latency: Annotated[float, option("SECONDS", "Time until the emulator's answers begin.", min=0)] = 0.04,
) -> None:
    """See both kinds of caching at work: no key, no network, under a minute.

    Runs real prompts (GSM8K) against a local emulator of the OpenAI and
    Anthropic APIs, and shows what was asked, what it would have cost at list
    prices, and what the caches saved.

    Needs two more packages: pip install uvicorn httptools
    """
    from rich.console import Console

    from lm_deluge.cli.report import print_reports
    from lm_deluge.text import money

    console = Console(highlight=False)
    reports: dict[str, RunReport] = {}
    directory = tempfile.TemporaryDirectory(prefix="lm_deluge-demo-")
    with _emulator(latency), directory as elsewhere, chdir(elsewhere):
        console.print(f"[bold]lm_deluge demo[/]: a local emulator answers, each time after {latency * 1000:.0f} ms.")
        for heading, run, names in _STEPS:
            _announce(console, heading, run)
            for name, report in zip(names, run(), strict=True):
                if report is not None:
                    reports[name] = report
    console.print("\n[bold]What was asked, paid and saved[/], at real list prices")
    print_reports(reports)
    cost = sum(report.cost for report in reports.values())
    avoided = sum(report.cost_avoided for report in reports.values())
    saved = sum(report.saved_by_prompt_cache for report in reports.values())
    console.print(
        f"{money(cost)} for the calls; {money(avoided)} avoided by the local cache, {money(saved)} saved by the "
        "provider's prompt cache.\n"
        "[dim]The emulator answered, so nothing was paid.[/]"
    )


def run_questions() -> "Iterator[RunReport | None]":
    from lm_deluge import LLMClient
    from lm_deluge.cache import SqliteCache
    from lm_deluge.testing import gsm8k

    questions = [row["question"] for row in gsm8k()]
    cache = SqliteCache("my_cache.db")
    client = LLMClient("gpt-4.1-mini", cache=cache, **NO_LIMITS)
    client.process_prompts_sync(questions)
    yield client.last_report
    client.process_prompts_sync(questions)
    yield client.last_report


def run_duplicates() -> "Iterator[RunReport | None]":
    from lm_deluge import LLMClient
    from lm_deluge.cache import SqliteCache

    cache = SqliteCache("my_cache.db")
    client = LLMClient("gpt-4.1-mini", cache=cache, **NO_LIMITS)
    client.process_prompts_sync(["What is 2+2?"] * 100)
    yield client.last_report
    client.process_prompts_sync(["What is 2+2?"] * 100)
    yield client.last_report


def run_many_shot() -> "Iterator[RunReport | None]":
    from lm_deluge import Conversation, LLMClient, PromptCache
    from lm_deluge.testing import gsm8k

    shots = [f"{row['question']}\n{row['answer']}" for row in gsm8k("train")]
    questions = [row["question"] for row in gsm8k()[:200]]
    client = LLMClient("claude-haiku-4-5", **NO_LIMITS)

    # All at once, as most clients do: each that starts before
    # an answer has begun pays for writing the prefix.
    base = Conversation.system("Solve it as here.\n\n" + "\n\n".join(shots))
    prompts = [base.user(question) for question in questions]
    cold = PromptCache(pattern="system_and_tools", warm=False)
    client.process_prompts_sync(prompts, cache=cold)
    yield client.last_report

    # One writes it, and the others wait until they can read it.
    base = Conversation.system("Solve it like this.\n\n" + "\n\n".join(shots))
    prompts = [base.user(question) for question in questions]
    client.process_prompts_sync(prompts, cache="system_and_tools")
    yield client.last_report


def run_offline() -> "Iterator[RunReport | None]":
    from lm_deluge import LLMClient
    from lm_deluge.cache import SqliteCache

    cache = SqliteCache("my_cache.db")
    client = LLMClient("gpt-4.1-mini", cache=cache, **NO_LIMITS)
    client.process_prompts_sync(["What is 2+2?"], cache_mode="offline")
    print(client.explain("What is 2+3?"))
    yield None


_Step = tuple[str, Callable[[], "Iterator[RunReport | None]"], tuple[str, ...]]

_STEPS: tuple[_Step, ...] = (
    ("1. A benchmark twice: calls first, then hits", run_questions, ("GSM8K", "GSM8K again")),
    ("2. A hundred duplicates twice", run_duplicates, ("100 dupes", "dupes again")),
    (
        "3. A long prefix that 200 prompts share, in the provider's prompt cache",
        run_many_shot,
        ("all at once", "one first"),
    ),
    ("4. Offline: what the cache has, and what is near where it has nothing", run_offline, ("offline",)),
)


def _announce(console: "Console", heading: str, run: Callable[[], object]) -> None:
    from rich.syntax import Syntax

    _, _, body = inspect.getsource(run).partition("\n")
    lines = [line for line in textwrap.dedent(body).splitlines() if not line.startswith(("from ", "yield "))]
    console.print(f"\n[bold cyan]{heading}[/]")
    code = "\n".join(lines).strip()
    if console.is_terminal:
        shown = Syntax(code, "python", theme="ansi_dark", background_color="default", padding=(0, 2), word_wrap=True)
        console.print(shown)
    else:
        print(textwrap.indent(code, "  "), flush=True)  # without the blanks that would fill each line


@contextmanager
def _emulator(latency: float) -> Iterator[None]:
    """An emulator in a process of its own, which the environment variables of the SDKs point at meanwhile."""
    import multiprocessing
    from unittest.mock import patch

    from lm_deluge._optional import require
    from lm_deluge.errors import ConfigError

    for module in ("uvicorn", "httptools"):
        require(module, extra="server", purpose="deluge demo")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(latency, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        try:
            url = ours.recv()
        except EOFError as error:
            raise ConfigError("The emulator did not start; `deluge emulate` shows why.") from error
        with patch.dict(
            os.environ,
            OPENAI_BASE_URL=f"{url}/v1",
            OPENAI_API_KEY="emulator",
            ANTHROPIC_BASE_URL=url,
            ANTHROPIC_API_KEY="emulator",
        ):
            yield
    finally:
        ours.close()
        process.join()


def _serve(latency: float, parent: "Connection") -> None:
    """Serve until the other end of the pipe is closed, which happens even where the demo is killed."""
    from lm_deluge.testing import Emulator

    with Emulator(latency=latency, record=False) as emulator:
        parent.send(emulator.url)
        with suppress(EOFError, KeyboardInterrupt):
            parent.recv()
