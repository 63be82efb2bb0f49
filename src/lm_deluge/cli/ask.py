"""One pass over the prompts of a ``deluge run``: rows to the client, answers to the output."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from lm_deluge import LLMClient
from lm_deluge.cli.display import Display
from lm_deluge.cli.prompts import ToolsNote, conversation_of
from lm_deluge.cli.results import Results, result_line
from lm_deluge.cli.rows import Row, RowReader, read_blocks
from lm_deluge.cli.settings import RunSettings
from lm_deluge.errors import CacheMissError, ConfigError
from lm_deluge.models import credential, resolve
from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse
from lm_deluge.tool import Tool

if TYPE_CHECKING:
    from lm_deluge.events import RunReport

__all__ = ["Asker"]

_LAST_PASSES = 10
_CACHE_ALONE = {"cache_mode": "offline", "on_miss": "raise"}


class _Asked(msgspec.Struct):
    """A row whose responses are still coming."""

    row: Row
    missing: Sequence[int]
    left: int


class Asker:
    """One pass over the prompts.

    Attributes:
        rows: rows of the input that were read.
        answered: answers that were written.
        errors: lines of errors that were written.
        unusable: those of them that stand for rows which could not be asked.
        first_error: the first error's message.
        report: the client's account; None as long as nothing was sent.
    """

    def __init__(self, settings: RunSettings, tools: Sequence[Tool], cache: Any) -> None:
        self._settings = settings
        self._tools = tools
        self._cache = cache
        self._system = settings.system_prompt()
        if self._system is not None:
            _ = self._system.digest  # computed once, and extended by each prompt that starts with it
        self._tools_note = ToolsNote(sends_tools=settings.tools is not None)
        # A cache, and the sharing of calls, tell samples apart by their numbers, so there the client counts, and gives
        # those that are known already again. Without either, each missing sample is simply asked as one more prompt.
        self._as_duplicates = cache is None and not settings.client.get("single_flight")
        self._asked: dict[int, _Asked] = {}
        self._known: list[float] = []  # dollars avoided by hits for samples that the output has already
        style = settings.progress
        self._display = None if style == "none" else Display(style, beside_results=settings.out is None)
        listeners = [] if self._display is None else [self._display]
        names = settings.client["model_names"]
        self._keyless = self._find_keyless(names)
        self._cache_alone = len(self._keyless) == len(set(names))
        self._call = {**settings.call, **_CACHE_ALONE} if self._cache_alone else settings.call
        # Errors that are no model's fault bear the name of the first, so one that can be asked comes first.
        client = {**settings.client, "model_names": sorted(names, key=self._keyless.__contains__)}
        self._client = LLMClient(**client, cache=cache, listeners=listeners)
        self.rows = self.answered = self.errors = self.unusable = 0
        self.first_error: str | None = None
        self.report: RunReport | None = None

    def shares(self, missing: Sequence[int]) -> list[Sequence[int]]:
        """The missing samples of a row, as prompts ask for them."""
        if self._as_duplicates:
            return [[sample] for sample in missing]
        return [missing] if missing else []

    @property
    def responses(self) -> int:
        """How many responses come for each prompt."""
        return 1 if self._as_duplicates else self._settings.each

    async def answer(self, results: Results, expected: int | None) -> None:
        """Ask what is missing, and write each result as it comes."""
        if self._display is not None:
            self._display.total = expected
        reading = asyncio.create_task(self._read_answers(results))
        try:
            await asyncio.shield(reading)
        except asyncio.CancelledError:
            # Answers that have come by now are only a few passes of the event loop away from being written.
            for _ in range(_LAST_PASSES):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            raise

    async def _read_answers(self, results: Results) -> None:
        async with self._client as client:
            iterator = client.process_prompts_iter(
                self._prompts(results),
                show_progress=False,
                tools=self._tools,
                cache=self._settings.prompt_cache,
                samples=self.responses,
                **self._call,
            )
            try:
                async with aclosing(iterator) as responses:
                    async for response in responses:
                        self._take(results, response)
            except CacheMissError as miss:
                raise self._missed() from miss
            finally:
                self.report = client.last_report and self._without_known(client.last_report)
                if self._display is not None:
                    self._display.close()

    def _without_known(self, report: "RunReport") -> "RunReport":
        """The account without the hits for samples that the output has already: they answered no row."""
        hits = len(self._known)
        return msgspec.structs.replace(
            report,
            prompts=report.prompts - hits,
            hits=report.hits - hits,
            cost_avoided=max(report.cost_avoided - sum(self._known), 0.0),
        )

    def _take(self, results: Results, response: APIResponse) -> None:
        asked = self._asked[response.id]
        asked.left -= 1
        if not asked.left:
            del self._asked[response.id]
        if response.is_error and not self._cache_alone and response.model_internal in self._keyless:
            raise self._missed()
        sample = asked.missing[0] if self._as_duplicates else response.sample
        if sample in asked.missing:
            self._write(results, asked.row, response, sample)
        elif response.local_cache_hit:
            self._known.append(response.cost_avoided or 0.0)

    async def _prompts(self, results: Results) -> AsyncIterator[Conversation]:
        """Prompts to ask, in order. Rows that cannot be asked become results here."""
        reader = RowReader(field=self._settings.field, limit=self._settings.limit)
        position = 0
        async for block in read_blocks(sys.stdin.fileno() if self._settings.source is None else self._settings.source):
            for row in reader.feed(block):
                self.rows += 1
                missing = results.missing(row, self._settings.each)
                prompt = conversation_of(row, self._system)
                if isinstance(prompt, str):
                    self._refuse(results, row, missing, prompt)
                    continue
                if missing:
                    self._tools_note.see(row)
                for samples in self.shares(missing):
                    self._asked[position] = _Asked(row, samples, self.responses)
                    position += 1
                    yield prompt
            if reader.full:
                return

    def _refuse(self, results: Results, row: Row, missing: Sequence[int], problem: str) -> None:
        for sample in missing:
            self.unusable += 1
            self._write(results, row, APIResponse(is_error=True, error_message=problem), sample)

    def _write(self, results: Results, row: Row, response: APIResponse, sample: int) -> None:
        numbered = None if self._settings.samples is None else sample
        line = result_line(row, response, sample=numbered, with_prompt=self._settings.with_prompt)
        results.write(row, line)
        if line["error"] is None:
            self.answered += 1
        else:
            self.errors += 1
            self.first_error = self.first_error or line["error"]

    def _find_keyless(self, names: Sequence[str]) -> dict[str, str]:
        """The models that cannot be asked for want of a key, and which key that is."""
        if self._settings.cache_mode == "offline":
            return {}
        given = self._settings.client
        models = [resolve(name, base_url=given.get("base_url"), environ=os.environ) for name in names]
        keyless = {
            model.name: " or ".join(model.service.key_env)
            for model in models
            if model.service.key_required and credential(model.service, os.environ) is None
        }
        if keyless and (self._cache is None or self._settings.cache_mode != "use"):
            raise ConfigError(f"{_not_set(keyless)} Set it to your key; `deluge demo` needs none.")
        return keyless

    def _missed(self) -> ConfigError:
        """A prompt that the cache does not know needs a model that has no key."""
        return ConfigError(f"{_not_set(self._keyless)} What the cache had is written; --offline leaves it at that.")


def _not_set(keyless: Mapping[str, str]) -> str:
    return " ".join(f"{key} is not set, so {name} cannot be asked." for name, key in keyless.items())
