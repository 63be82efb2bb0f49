"""What ``deluge run`` was asked for, what is checked before anything is sent, and what is said afterwards."""

import hashlib
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Literal

import msgspec

from lm_deluge import canonical
from lm_deluge._loops import run_here
from lm_deluge.cli.ask import Asking
from lm_deluge.cli.prompts import conversation_of, read_json, read_tools
from lm_deluge.cli.report import print_reports
from lm_deluge.cli.results import Results
from lm_deluge.cli.rows import read_rows
from lm_deluge.cli.signals import sigterm_as_ctrl_c
from lm_deluge.cli.stores import open_cache
from lm_deluge.cli.terminal import say, shown
from lm_deluge.errors import ConfigError
from lm_deluge.progress import ProgressStyle
from lm_deluge.progress.summary import cache_failures
from lm_deluge.prompt_cache import PromptCache
from lm_deluge.text import counted

__all__ = ["Job", "execute"]

_SHAPES_ANSWERS = (
    "model_names",
    "base_url",
    "temperature",
    "top_p",
    "max_new_tokens",
    "json_mode",
    "reasoning_effort",
)
"""Those of the client's arguments that change what is answered; results of different ones do not mix in one file."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A ``deluge run``, as it was asked for.

    Attributes:
        source: the prompts; None for standard input.
        out: the file of results; None for standard output.
        overwrite: forget what ``out`` holds.
        field: the field that holds the prompt.
        limit: the most rows to read.
        with_prompt: repeat the prompt in each result.
        system: a system message for prompts that have none.
        tools: a file of tools.
        samples: answers for each row; None for one, without a number.
        prompt_cache: what is asked of the provider's prompt cache.
        cache: the local cache: a path or a URL.
        store: arguments of that cache; those that were not given are absent.
        progress: how progress is shown.
        client: arguments of ``LLMClient``, in the same way.
        call: arguments of ``process_prompts_iter``, in the same way.
    """

    source: Path | None
    out: Path | None
    overwrite: bool = False
    field: str | None = None
    limit: int | None = None
    with_prompt: bool = False
    system: str | None = None
    tools: Path | None = None
    samples: int | None = None
    prompt_cache: PromptCache | None = None
    cache: str | None = None
    store: Mapping[str, Any] = {}
    progress: ProgressStyle | Literal["none"] = "rich"
    client: Mapping[str, Any] = {}
    call: Mapping[str, Any] = {}

    @property
    def cache_mode(self) -> str:
        """How the local cache is used."""
        return str(self.call.get("cache_mode") or os.environ.get("LM_DELUGE_CACHE_MODE") or "use")

    @property
    def settings(self) -> str:
        """Eight hexadecimal digits that stand for all that shapes the answers beside the prompts."""
        shape = {name: self.client[name] for name in _SHAPES_ANSWERS if name in self.client}
        tools = [] if self.tools is None else read_json(self.tools)
        return hashlib.sha256(canonical.encode([shape, self.system, tools])).hexdigest()[:8]

    @property
    def source_name(self) -> str:
        """The source, for messages."""
        return "standard input" if self.source is None else str(self.source)


class _Survey(msgspec.Struct):
    """What a first reading of the prompts found, so that a mistake is known before anything is paid."""

    rows: int = 0
    wanted: int = 0  # answers
    missing: int = 0
    expected: int = 0  # responses, once all that is missing is asked


def execute(job: Job) -> int:
    """Run a job and return its exit code.

    Raises:
        ConfigError, CacheError, OSError: the job cannot be done as asked, or there is no key for it.
    """
    _check_files(job)
    tools = [] if job.tools is None else read_tools(job.tools)
    with _open_cache(job) as cache:
        asking = Asking(job, tools, cache)
        with _open_results(job) as results:
            try:
                code = _carry_out(job, asking, results)
            finally:
                notices, misplaced = results.look()
                for notice in notices:
                    say(shown(notice))
            return code or int(misplaced)


def _carry_out(job: Job, asking: Asking, results: Results) -> int:
    survey = _survey(job, results, asking)
    _say_what_is_there(job, results, survey)
    if survey is not None and not survey.missing:
        say(_nothing_to_do(job, survey))
        return 0
    with sigterm_as_ctrl_c() as terminated:
        try:
            run_here(lambda: asking.answer(results, None if survey is None else survey.expected))
        except KeyboardInterrupt:
            _print_account(job, asking)
            say(_interrupted(job, results.answered + asking.answered, survey))
            return 143 if terminated() else 130
    if not asking.rows:
        say(f"No prompts in {job.source_name}.")
        return 0
    _print_account(job, asking)
    if asking.errors:
        say(_first_error(job, asking))
    return 1 if asking.errors else 0


def _check_files(job: Job) -> None:
    """Find what is missing or mixed up before an existing file is changed."""
    if job.source is not None:
        if not job.source.is_fifo():  # opening one and closing it again would end the program that writes to it
            job.source.open("rb").close()
        if job.out is not None and job.out.exists() and job.out.samefile(job.source):
            raise ConfigError(f"{job.out} holds the prompts; choose another file for --out.")
    if job.overwrite and job.out is None:
        raise ConfigError("--overwrite needs --out; standard output has nothing to overwrite.")


def _open_cache(job: Job) -> AbstractContextManager[Any]:
    return (
        nullcontext()
        if job.cache is None
        else closing(open_cache(job.cache, job.store, offline=job.cache_mode == "offline"))
    )


def _open_results(job: Job) -> Results:
    if job.out is None:
        return Results(sys.stdout.buffer, job.settings)
    return Results.open(job.out, job.settings, overwrite=job.overwrite)


def _survey(job: Job, results: Results, asking: Asking) -> _Survey | None:
    """Read the prompts through once, if they can be read twice.

    Raises:
        ConfigError: the results are those of other prompts.
    """
    if job.source is None or not stat.S_ISREG(job.source.stat().st_mode):
        return None
    samples = job.samples or 1
    survey = _Survey()
    for row in read_rows(job.source, field=job.field, limit=job.limit):
        survey.rows += 1
        survey.wanted += samples
        missing = results.missing(row, samples)
        survey.missing += len(missing)
        if not isinstance(conversation_of(row), str):
            survey.expected += len(asking.shares(missing)) * asking.responses
    gone = results.rows_from(survey.rows)
    if gone and job.limit is None:
        raise ConfigError(
            f"{job.out} answers {counted(gone, 'row')} that {job.source} no longer has. "
            "Choose another --out, or start anew with --overwrite."
        )
    return survey


# What is said


def _say_what_is_there(job: Job, results: Results, survey: _Survey | None) -> None:
    if results.dropped_torn:
        say(f"{job.out}: the last line was torn when its run was killed; it is dropped and asked again.")
    if results.dropped_errors:
        say(f"{job.out}: {counted(results.dropped_errors, _unit(job))} with errors will be asked again.")
    if survey is not None and survey.missing and survey.missing < survey.wanted:
        there = f"{survey.wanted - survey.missing:,} of {counted(survey.wanted, _unit(job))}"
        say(f"{job.out}: {there} {'answered' if job.samples is None else 'there'} already; going on.")


def _nothing_to_do(job: Job, survey: _Survey) -> str:
    if not survey.rows:
        return f"No prompts in {job.source_name}."
    each = "" if job.samples is None else f" {counted(job.samples, 'time')}"
    return f"Nothing to do: {counted(survey.rows, 'row')}, all answered{each}."


def _print_account(job: Job, asking: Asking) -> None:
    if asking.report is not None and job.progress != "none":
        # Rows that could not be asked are results too, and the client has not seen them.
        whole = msgspec.structs.replace(
            asking.report,
            prompts=asking.report.prompts + asking.unusable,
            errors=asking.report.errors + asking.unusable,
        )
        print_reports({"": whole})
        for sentence in cache_failures(whole):
            say(sentence)
        reasons = ", ".join(f"{number:,} {shown(reason)}" for reason, number in whole.cache_miss_reasons.items())
        if reasons:
            say(f"Why prompts were not read from the provider's cache, by its own account: {reasons}.")


def _first_error(job: Job, asking: Asking) -> str:
    unit = _unit(job)
    again = " Run the same command again to retry." if job.out else ""
    if job.cache_mode == "offline":
        again = " Run without --offline to buy what is missing."
    errors = counted(asking.errors, f"{unit} has an error", f"{unit}s have errors")
    return f"{errors}.{again} The first: {shown(asking.first_error or '')}"


def _interrupted(job: Job, answered: int, survey: _Survey | None) -> str:
    of = "" if survey is None else f" of {survey.wanted:,}"
    if job.out is None:
        return f"Interrupted: {answered:,}{of} answered. With --out FILE, a run can be gone on with."
    return f"Interrupted: {answered:,}{of} answered. Run the same command again to go on."


def _unit(job: Job) -> str:
    return "row" if job.samples is None else "answer"
