"""What ``deluge run`` does: rows from the input to the client, answers to the output, and an account of it."""

import hashlib
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, Literal

import msgspec

from lm_deluge import LLMClient, canonical
from lm_deluge._loops import run_here
from lm_deluge.cli.results import Results, result_line
from lm_deluge.cli.rows import Row, RowReader, read_blocks
from lm_deluge.cli.tables import print_reports
from lm_deluge.errors import ConfigError, PromptError
from lm_deluge.events import Event, Listener, RunReport, RunStarted
from lm_deluge.progress import ProgressStyle, listener
from lm_deluge.progress.text import count
from lm_deluge.prompt import Conversation, as_conversation
from lm_deluge.prompt_cache import check_pattern
from lm_deluge.tool import Tool

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
        system: a system message for prompts that have none.
        tools: a file of tools.
        pattern: a pattern of the provider's prompt cache.
        cache: the SQLite file of the local cache.
        cache_key: a namespace within it.
        progress: how progress is shown.
        client: arguments of ``LLMClient``; those that were not given are absent.
    """

    source: Path | None
    out: Path | None
    overwrite: bool = False
    field: str | None = None
    limit: int | None = None
    system: str | None = None
    tools: Path | None = None
    pattern: str | None = None
    cache: Path | None = None
    cache_key: str | None = None
    progress: ProgressStyle | Literal["none"] = "rich"
    client: Mapping[str, Any] = {}

    @property
    def settings(self) -> str:
        """Eight hexadecimal digits that stand for all that shapes the answers beside the prompts."""
        shape = {name: self.client[name] for name in _SHAPES_ANSWERS if name in self.client}
        tools = [] if self.tools is None else _read_json(self.tools)
        return hashlib.sha256(canonical.encode([shape, self.system, tools])).hexdigest()[:8]


class _Survey(msgspec.Struct):
    """What a first reading of the prompts found, so that a mistake is known before anything is paid."""

    rows: int = 0
    answered: int = 0
    unusable: int = 0

    @property
    def to_ask(self) -> int:
        return self.rows - self.answered - self.unusable


def execute(job: Job) -> int:
    """Run a job and return its exit code.

    Raises:
        ConfigError, CacheError, OSError: the job cannot be done as asked. Nothing was sent.
    """
    _check_files(job)
    tools = [] if job.tools is None else _read_tools(job.tools)
    with closing(_Run(job, tools)) as run, _open_results(job) as results:
        survey = _survey(job, results)
        _say_what_is_there(job, results, survey)
        if survey is not None and survey.answered == survey.rows:
            _say(f"Nothing to do: {count(survey.rows, 'row')}, all answered.")
            return 0
        try:
            run_here(lambda: run.answer(results, survey))
        except KeyboardInterrupt:
            _say(_interrupted(job, results.answered + run.answered, survey))
            return 130
    _say_what_was_done(job, run)
    return 1 if run.errors else 0


class _Run:
    """One pass over the prompts. It counts; ``report`` is there once prompts were sent."""

    def __init__(self, job: Job, tools: list[Tool]) -> None:
        self._job = job
        self._tools = tools
        self._pattern = check_pattern(job.pattern)
        self._system = None if job.system is None else Conversation.system(job.system)
        if self._system is not None:
            _ = self._system.digest  # computed once, and extended by each prompt that starts with it
        self._total: int | None = None
        self._asked: dict[int, Row] = {}
        self.answered = 0
        self.errors = 0
        self.first_error: str | None = None
        self.report: RunReport | None = None
        shown = None if job.progress == "none" else self._display(job.progress)
        self._cache = _open_cache(job.cache, job.cache_key)
        self._client = LLMClient(**job.client, cache=self._cache, listeners=[] if shown is None else [shown])

    async def answer(self, results: Results, survey: _Survey | None) -> None:
        """Ask what is missing, and write each result as it comes."""
        self._total = None if survey is None else survey.to_ask
        async with self._client as client:
            iterator = client.process_prompts_iter(
                self._prompts(results), show_progress=False, tools=self._tools, cache=self._pattern
            )
            try:
                async with aclosing(iterator) as responses:
                    async for response in responses:
                        row = self._asked.pop(response.id)
                        self._write(results, row, result_line(row, response))
            finally:
                self.report = client.last_report

    def close(self) -> None:
        """Close the cache."""
        if self._cache is not None:
            self._cache.close()

    async def _prompts(self, results: Results) -> AsyncIterator[Conversation]:
        """Prompts to ask, in order. Rows that cannot be asked become results here."""
        reader = RowReader(field=self._job.field, limit=self._job.limit)
        position = 0
        async for block in read_blocks(sys.stdin.fileno() if self._job.source is None else self._job.source):
            for row in reader.feed(block):
                if results.has(row):
                    continue
                prompt = _conversation(row)
                if isinstance(prompt, str):
                    self._write(results, row, result_line(row, problem=prompt))
                    continue
                self._asked[position] = row
                position += 1
                yield self._with_system(prompt)
            if reader.full:
                return

    def _with_system(self, prompt: Conversation) -> Conversation:
        if self._system is None or any(message.role == "system" for message in prompt.messages):
            return prompt
        whole = self._system
        for message in prompt.messages:
            whole = whole.add(message)
        return whole

    def _write(self, results: Results, row: Row, line: dict[str, Any]) -> None:
        results.write(row, line)
        if line["error"] is None:
            self.answered += 1
        else:
            self.errors += 1
            self.first_error = self.first_error or line["error"]

    def _display(self, style: ProgressStyle) -> Listener:
        if style == "rich" and self._job.out is None and sys.stdout.isatty():
            style = "manual"  # a line that redraws itself would garble the results that scroll by
        shown = listener(style)

        def tell(event: Event) -> None:
            # The client reads a stream and cannot know how long it is; we have counted.
            shown(RunStarted(self._total, event.models) if isinstance(event, RunStarted) else event)

        return tell


def _conversation(row: Row) -> Conversation | str:
    """The prompt of a row, or what is wrong with it."""
    if row.problem is not None:
        return row.problem
    try:
        return as_conversation(row.prompt)
    except PromptError as error:
        return f"Line {row.line} has a prompt that cannot be read: {error}"


def _check_files(job: Job) -> None:
    """Find what is missing or mixed up before an existing file is changed."""
    if job.source is not None:
        if not job.source.is_fifo():  # opening one and closing it again would end the program that writes to it
            job.source.open("rb").close()
        if job.out is not None and job.out.exists() and job.out.samefile(job.source):
            raise ConfigError(f"{job.out} holds the prompts; choose another file for --out.")
    if job.overwrite and job.out is None:
        raise ConfigError("--overwrite needs --out; standard output has nothing to overwrite.")


def _open_results(job: Job) -> Results:
    if job.out is None:
        return Results(sys.stdout.buffer, job.settings)
    return Results.open(job.out, job.settings, overwrite=job.overwrite)


def _open_cache(path: Path | None, key: str | None) -> Any:
    if path is None:
        if key is not None:
            raise ConfigError("--cache-key needs --cache, the file that it is a part of.")
        return None
    from lm_deluge.cache import SqliteCache

    return SqliteCache(path) if key is None else SqliteCache(path, cache_key=key)


def _survey(job: Job, results: Results) -> _Survey | None:
    """Read the prompts through once, if they can be read twice.

    Raises:
        ConfigError: the results are those of other prompts.
    """
    if job.source is None or not stat.S_ISREG(job.source.stat().st_mode):
        return None
    survey = _Survey()
    for row in _read_all(job.source, RowReader(field=job.field, limit=job.limit)):
        survey.rows += 1
        if results.has(row):
            survey.answered += 1
        elif isinstance(_conversation(row), str):
            survey.unusable += 1
    if survey.answered < results.answered and job.limit is None:
        raise ConfigError(
            f"{job.out} answers {count(results.answered - survey.answered, 'row')} that {job.source} no longer has. "
            "Choose another --out, or start anew with --overwrite."
        )
    return survey


def _read_all(path: Path, reader: RowReader) -> Iterator[Row]:
    with path.open("rb") as file:
        while block := file.read(1 << 16):
            yield from reader.feed(block)
            if reader.full:
                return
        yield from reader.feed(b"")


def _say_what_is_there(job: Job, results: Results, survey: _Survey | None) -> None:
    if results.dropped_torn:
        _say(f"{job.out}: the last line was torn when its run was killed; it is dropped and asked again.")
    if results.dropped_errors:
        _say(f"{job.out}: {count(results.dropped_errors, 'row')} with errors will be asked again.")
    if results.answered and survey is not None and survey.to_ask:
        _say(f"{job.out}: {survey.answered:,} of {count(survey.rows, 'row')} answered already; going on.")


def _say_what_was_done(job: Job, run: _Run) -> None:
    if run.report is not None and job.progress != "none":
        print_reports({"": run.report})
    if run.errors:
        again = " Run the same command again to retry." if job.out else ""
        _say(f"{count(run.errors, 'row has an error', 'rows have errors')}.{again} The first: {run.first_error}")


def _interrupted(job: Job, answered: int, survey: _Survey | None) -> str:
    of = "" if survey is None else f" of {survey.rows:,}"
    if job.out is None:
        return f"Interrupted: {answered:,}{of} answered. With --out FILE, a run can be gone on with."
    return f"Interrupted: {answered:,}{of} answered. Run the same command again to go on."


def _read_tools(path: Path) -> list[Tool]:
    """Tools as providers' APIs write them: OpenAI's, with or without ``"function"``, or Anthropic's."""
    listed = _read_json(path)
    if not isinstance(listed, list):
        raise ConfigError(f"{path} does not hold a list of tools.")
    return [_read_tool(item, f"Tool {number} of {path}") for number, item in enumerate(listed, 1)]


def _read_tool(item: Any, where: str) -> Tool:
    fields = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        raise ConfigError(f"{where} is not an object with a name.")
    return Tool(
        name=fields["name"],
        description=fields.get("description") or "",
        parameters=fields.get("parameters") or fields.get("input_schema") or {},
        strict=fields.get("strict"),
    )


def _read_json(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
