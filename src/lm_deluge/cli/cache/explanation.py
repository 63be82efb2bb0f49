"""What ``deluge cache explain`` does: prompts to explanations, and those to text or JSON."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from lm_deluge.cache.explain import Searcher, Wanted, explain
from lm_deluge.cache.record import Scope
from lm_deluge.cli.options import unless_dash
from lm_deluge.cli.output import print_json
from lm_deluge.cli.prompts import conversation_of, read_tools
from lm_deluge.cli.rows import read_rows
from lm_deluge.cli.stores import open_store
from lm_deluge.cli.terminal import say, shown
from lm_deluge.errors import ConfigError, PromptError
from lm_deluge.prompt import Conversation, as_conversation
from lm_deluge.request import Parameters
from lm_deluge.text import counted

__all__ = ["Question", "answer"]

_TITLE_WIDTH = 72


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A ``deluge cache explain``, as it was asked for.

    Attributes:
        store: the cache.
        source: a file of prompts; ``-`` for standard input.
        prompt: one prompt.
        field: the field of the file that holds the prompt.
        limit: the most rows to read.
        system: a system message for prompts that have none.
        models: the models that would be asked; none if that is not known.
        client: sampling parameters, as ``LLMClient`` takes them.
        tools: a file of tools.
        namespace: the ``cache_key``.
        scope: what keys are made from.
        sample: which of several independent answers is meant.
        max_age: seconds; older entries do not count.
        misses: leave hits out.
        nearest: how many near entries to give.
        search: how many entries to search.
        as_json: a line of JSON for each prompt.
    """

    store: str
    source: Path | None = None
    prompt: str | None = None
    field: str | None = None
    limit: int | None = None
    system: str | None = None
    models: tuple[str, ...] = ()
    client: Mapping[str, Any] = {}
    tools: Path | None = None
    namespace: str = "default"
    scope: Scope = "conversation"
    sample: int = 0
    max_age: float | None = None
    misses: bool = False
    nearest: int = 3
    search: int = 20_000
    as_json: bool = False


def answer(question: Question) -> None:
    """Explain each prompt.

    Raises:
        ConfigError: there is no prompt or more than one source of them, or ``scope="request"`` without a model.
    """
    if (question.source is None) == (question.prompt is None):
        raise ConfigError("Give either a file of prompts or --prompt TEXT.")
    parameters = _parameters(question)
    if question.scope == "request" and not parameters:
        raise ConfigError("With --scope request, keys are made of model and parameters too: give --model.")
    hits = misses = unusable = 0
    with closing(open_store(question.store)) as store:
        searcher = Searcher(store, question.namespace, question.search)
        for index, title, prompt in _prompts(question):
            if isinstance(prompt, str):
                unusable += 1
                say(prompt)
                continue
            try:
                wanted = Wanted(
                    conversation=prompt.load(),
                    parameters=parameters,
                    namespace=question.namespace,
                    scope=question.scope,
                    sample=question.sample,
                    max_age=question.max_age,
                )
                found = explain(store, wanted, now=time.time(), most=question.nearest, searcher=searcher)
            except PromptError as error:
                unusable += 1
                say(f"{title}: {error}")
                continue
            hits, misses = hits + found.hit, misses + (not found.hit)
            if found.hit and question.misses:
                continue
            if question.as_json:
                print_json({"index": index, "prompt": title, **msgspec.structs.asdict(found)})
            else:
                sys.stdout.write(f"{found}\n" if index is None else f"row {index}: {title}\n{found}\n\n")
    if question.prompt is None:
        left = f", {counted(unusable, 'row')} that cannot be read" if unusable else ""
        total = hits + misses + unusable
        say(f"{counted(hits, 'hit')}, {counted(misses, 'miss', 'misses')}{left}." if total else "No prompts.")


def _parameters(question: Question) -> tuple[Parameters, ...]:
    if not question.models:
        if question.client or question.tools is not None:
            raise ConfigError("Sampling parameters and tools say something together with --model only.")
        return ()
    from lm_deluge import LLMClient

    tools = [] if question.tools is None else read_tools(question.tools)
    with LLMClient(list(question.models), **question.client) as client:
        return client.parameters(tools=tools)


def _prompts(question: Question) -> Iterator[tuple[int | None, str, Conversation | str]]:
    """Index of the row, what to call the prompt, and the prompt, or what is wrong with it."""
    system = None if question.system is None else Conversation.system(question.system)
    if question.prompt is not None:
        prompt = as_conversation(question.prompt)
        yield None, _title(prompt), prompt if system is None else system.add(prompt.messages[0])
        return
    source = None if question.source is None else unless_dash(question.source)
    for row in read_rows(source, field=question.field, limit=question.limit):
        found = conversation_of(row, system)
        text = found if isinstance(found, str) else _title(found)
        yield row.index, text, found


def _title(prompt: Conversation) -> str:
    texts = (message.completion for message in reversed(prompt.messages))
    text = shown(next((text for text in texts if text), ""))
    return text if len(text) <= _TITLE_WIDTH else f"{text[: _TITLE_WIDTH - 1]}…"
