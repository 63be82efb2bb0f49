"""Warnings: each is given once, and none of them can stop a run.

Most are of one run. What is worth saying about how prompts are cached is seen across a client's runs: a program that
asks one prompt at a time has as much to learn as one that asks a thousand at once.
"""

import asyncio
import logging
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lm_deluge._locks import renewed
from lm_deluge.errors import PromptCacheWarning
from lm_deluge.models import Model
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import Advice, CachePlan, Prefix, PromptCache, advise, tools_reordered
from lm_deluge.text import counted
from lm_deluge.tool import Tool

__all__ = ["Advisor", "Warnings", "why_missed"]

_log = logging.getLogger("lm_deluge")

_SEEN = 16  # the latest prompts, which are held for as long as the client lives
_MOST_SERIES = 4_096  # the latest answers that others are compared with

# A warning should point at the line that called us, past this package and what runs its coroutines.
_OURS = (str(Path(__file__).parent.parent), str(Path(asyncio.__file__).parent), "uvloop")


class Warnings:
    """Gives each warning once.

    Where filters turn warnings into errors, one that comes before the first call is raised. Later ones are logged
    instead, because raising them would throw away answers that are paid for.

    Attributes:
        sending: whether calls may have been made.
    """

    def __init__(self) -> None:
        self.sending = False
        self._given: set[object] = set()

    def warn(self, key: object, message: str, category: type[Warning]) -> None:
        """Warn, unless this was warned of before."""
        if key in self._given:
            return
        self._given.add(key)
        try:
            warnings.warn(message, category, stacklevel=_depth_of_the_caller())
        except Warning:
            if not self.sending:
                raise
            _log.error("%s: %s", category.__name__, message)


def _depth_of_the_caller() -> int:
    """The ``stacklevel`` that points at the nearest frame outside; this package's own if there is none."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OURS):
        if frame.f_back is None:
            return 2  # a thread of ours: no frame outside is on the stack
        depth, frame = depth + 1, frame.f_back
    return depth


_MISSED: Mapping[str, str] = {
    "model_changed": "the model, or its speed, is another than in the request before. Keep to one",
    "system_changed": "the system text differs from the request before. Move what varies behind it",
    "tools_changed": "the tools differ from the request before. Keep the same ones in the same order",
    "messages_changed": "an earlier message differs from the request before. Append, and change nothing that was sent",
    "previous_message_not_found": "it has no record of the request before. That does not mean that anything changed",
    "unavailable": "it could not tell. Thinking, effort or tool_choice may differ from the request before",
}


def why_missed(reason: str, answers: int) -> str:
    """What to say of answers of which the provider read nothing from its cache, for a reason of its own."""
    prompts = counted(answers, "prompt was", "prompts were")
    return f"{prompts} not read from the provider's cache, which says {reason}: {_MISSED.get(reason, 'see its guide')}."


class _Watched:
    """The prompts that went to one model with one pattern and the same tools: the latest, and a word on all others."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self.planned: OrderedDict[bytes, tuple[Conversation, CachePlan]] = OrderedDict()  # by digest
        self.count = 0
        self.longest: Prefix | None = None
        self.is_read = False
        self.newest: str | None = None  # the id of the latest answer
        self.reordered: Advice | None = None
        self.look_at = 1  # looking takes time, so it is done at 1, 2, 4, 8 ... prompts

    def add(self, prompt: Conversation, plan: CachePlan) -> None:
        """Take in a prompt. Samples of one, and what is asked again, are no further prompts."""
        self.count += prompt.digest not in self.planned
        self.planned[prompt.digest] = (prompt, plan)
        if len(self.planned) > _SEEN:
            self.planned.popitem(last=False)
        if plan.prefixes and (self.longest is None or plan.prefixes[-1].tokens > self.longest.tokens):
            self.longest = plan.prefixes[-1]


class Advisor:
    """Sees prompts and their plans. Shared by a client's runs, in all threads."""

    def __init__(self) -> None:
        self._lock = renewed(threading.Lock())
        self._watched: dict[tuple[str, PromptCache], _Watched] = {}
        self._said: set[tuple[str, str]] = set()
        self._latest: OrderedDict[tuple[str, bytes], str] = OrderedDict()  # the id of each series' latest answer

    def see(
        self, model: Model, cache: PromptCache, tools: Sequence[Tool], prompt: Conversation, plan: CachePlan
    ) -> None:
        """Take in a prompt that is about to be sent."""
        with self._lock:
            watched = self._watched.get((model.name, cache))
            if watched is None or (watched.tools is not tools and watched.tools != tools):
                before = None if watched is None else watched.tools
                watched = self._watched[model.name, cache] = _Watched(tools)
                watched.reordered = None if before is None else tools_reordered(before, tools)
            watched.add(prompt, plan)

    def answered(
        self,
        model: Model,
        cache: PromptCache,
        prompt: Conversation,
        plan: CachePlan,
        response_id: str | None,
        *,
        is_read: bool,
    ) -> None:
        """Take in an answer: its id, and whether its prompt read what another wrote."""
        series = _series(cache, prompt, plan) if cache.diagnostics and response_id is not None else None
        with self._lock:
            if series is not None and response_id is not None:
                self._latest[model.name, series] = response_id
                self._latest.move_to_end((model.name, series))
                if len(self._latest) > _MOST_SERIES:
                    self._latest.popitem(last=False)
            watched = self._watched.get((model.name, cache))
            if watched is not None:
                watched.is_read = watched.is_read or is_read
                watched.newest = response_id

    def answer_before(self, model: Model, cache: PromptCache, prompt: Conversation, plan: CachePlan) -> str | None:
        """The provider's id of the answer whose request its diagnostics should compare a prompt with.

        That is the latest one of the same series: of a conversation, its own earlier turn; of other prompts, one that
        begins with the same prefix. Prompts of several groups, asked side by side, differ from each other without
        anything being wrong; but as long as no prompt has read anything, it may be any. None where there is none.
        """
        if cache.goes_on and not any(message.role == "assistant" for message in prompt.messages):
            return None  # its first turn
        series = _series(cache, prompt, plan)
        with self._lock:
            found = None if series is None else self._latest.get((model.name, series))
            watched = self._watched.get((model.name, cache))
            if found is None and not cache.goes_on and watched is not None and not watched.is_read:
                return watched.newest
            return found

    def look(self, model: Model, cache: PromptCache, *, answers: int, reserved: int) -> list[Advice]:
        """What is wrong with the prompts that were seen, unless nothing new can be said by now.

        Args:
            model: where the prompts went.
            cache: what the user asked for.
            answers: how many answers the run had that is over.
            reserved: breakpoints that requests carry besides, for example in ``extra_body``.
        """
        with self._lock:
            watched = self._watched.get((model.name, cache))
            if watched is None or watched.count < watched.look_at:
                return []
            while watched.look_at <= watched.count:
                watched.look_at *= 2
            reordered, watched.reordered = watched.reordered, None
            planned = list(watched.planned.values())
            longest, is_read = watched.longest, watched.is_read
        found = advise(
            cache,
            model,
            watched.tools,
            planned,
            reserved=reserved,
            answers=answers,
            longest=longest,
            is_read=is_read,
        )
        return found if reordered is None else [*found, reordered]

    def say(self, warnings: Warnings, model: Model, found: Iterable[Advice | None]) -> None:
        """Give the advice that this client has not given yet."""
        for advice in found:
            if advice is None:
                continue
            key = (advice.kind, model.name)
            with self._lock:
                is_new = key not in self._said
                self._said.add(key)
            if not is_new:
                continue
            try:
                warnings.warn(key, advice.message, PromptCacheWarning)
            except Warning:  # where warnings are errors, it stops the run
                with self._lock:
                    self._said.discard(key)
                raise


def _series(cache: PromptCache, prompt: Conversation, plan: CachePlan) -> bytes | None:
    """What prompts have in common of which each should read what the one before wrote; None where nothing is known.

    A conversation is told by what it opens with after the system text, which is what may have changed.
    """
    if not cache.goes_on:
        return plan.prefixes[0].id if plan.prefixes else None
    opening = next((message for message in prompt.messages if message.role != "system"), None)
    return None if opening is None else Conversation((opening,)).digest
