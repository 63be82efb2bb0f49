"""What ``deluge cache explain`` does: prompts to explanations, and those to text or JSON."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing

import msgspec

from lm_deluge.cache.explain import Searcher, Wanted, explain
from lm_deluge.cli.output import print_json
from lm_deluge.cli.prompts import conversation_of, last_text
from lm_deluge.cli.settings import Settings
from lm_deluge.cli.stores import open_store
from lm_deluge.cli.terminal import say, shown
from lm_deluge.errors import ConfigError, PromptError
from lm_deluge.prompt import Conversation, as_conversation
from lm_deluge.request import Parameters
from lm_deluge.text import counted

__all__ = ["Question", "answer"]

_TITLE_WIDTH = 72


class Question(Settings, frozen=True, kw_only=True):
    """A ``deluge cache explain``, as it was asked for."""

    cache: str
    prompt: str | None = None
    sample: int = 0
    misses: bool = False
    nearest: int = 3
    search: int = 20_000
    as_json: bool = False


def answer(question: Question) -> None:
    """Explain each prompt."""
    parameters = _parameters(question)
    namespace, scope = question.cache_options.get("cache_key", "default"), question.cache_options["scope"]
    if scope == "request" and not parameters:
        raise ConfigError("By request (--scope, LM_DELUGE_CACHE_SCOPE) model and parameters matter too: give --model.")
    hits = misses = unusable = 0
    with closing(open_store(question.cache)) as store:
        searcher = Searcher(store, namespace, question.search)
        for index, title, prompt in _prompts(question):
            if isinstance(prompt, str):
                unusable += 1
                say(prompt)
                continue
            try:
                wanted = Wanted(
                    conversation=prompt.load(),
                    parameters=parameters,
                    namespace=namespace,
                    scope=scope,
                    sample=question.sample,
                    max_age=question.call.get("max_age"),
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
    if "model_names" not in question.client:
        if question.client or question.tools is not None:
            raise ConfigError("Sampling parameters and tools say something together with --model only.")
        return ()
    from lm_deluge import LLMClient

    tools = question.read_tools()
    with LLMClient(**question.client) as client:
        return client.parameters(tools=tools)


def _prompts(question: Question) -> Iterator[tuple[int | None, str, Conversation | str]]:
    """Index of the row, what to call the prompt, and the prompt, or what is wrong with it."""
    system = question.system_prompt()
    if question.prompt is not None:
        prompt = as_conversation(question.prompt)
        yield None, _title(prompt), prompt if system is None else system.add(prompt.messages[0])
        return
    for row in question.rows():
        found = conversation_of(row, system)
        text = found if isinstance(found, str) else _title(found)
        yield row.index, text, found


def _title(prompt: Conversation) -> str:
    text = shown(last_text(prompt) or "")
    return text if len(text) <= _TITLE_WIDTH else f"{text[: _TITLE_WIDTH - 1]}…"
