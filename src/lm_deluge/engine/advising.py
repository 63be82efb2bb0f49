"""What is worth saying about how a client's prompts are cached: seen across its runs, said once.

A program that asks one prompt at a time has as much to learn as a batch, so what is seen outlives a run.
"""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from lm_deluge.engine.notices import Notices
from lm_deluge.errors import PromptCacheWarning
from lm_deluge.models import Model
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import Advice, CachePlan, PromptCache, advise, tools_reordered
from lm_deluge.tool import Tool

__all__ = ["Advisor"]

_SEEN = 16  # the latest prompts, which are held for as long as the client lives


class _Watched:
    """The latest prompts that went to one model with one pattern and the same tools."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self.planned: deque[tuple[Conversation, CachePlan]] = deque(maxlen=_SEEN)
        self.count = 0
        self.is_read = False
        self.reordered: Advice | None = None
        self.look_at = 1  # looking takes time, so it is done at 1, 2, 4, 8 ... prompts


class Advisor:
    """Sees prompts and their plans. Shared by a client's runs, in all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[tuple[str, PromptCache], _Watched] = {}
        self._said: set[tuple[str, str]] = set()
        self._last_response: dict[str, str] = {}

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
            watched.count += 1
            watched.planned.append((prompt, plan))

    def answered(self, model: Model, cache: PromptCache, response_id: str | None, *, is_read: bool) -> None:
        """Take in an answer: its id, and whether its prompt read what another wrote."""
        with self._lock:
            if cache.diagnostics and response_id is not None:
                self._last_response[model.name] = response_id
            watched = self._watched.get((model.name, cache))
            if watched is not None and is_read:
                watched.is_read = True

    def last_response(self, model: Model) -> str | None:
        """The provider's id of the latest answer of a model, for its diagnostics to compare with."""
        return self._last_response.get(model.name)

    def look(self, model: Model, cache: PromptCache, *, reserved: int, now: float) -> list[Advice]:
        """What is wrong with the prompts that were seen, unless nothing new can be said by now.

        Args:
            model: where the prompts went.
            cache: what the user asked for.
            reserved: marks that requests carry besides, for example in ``extra_body``.
            now: seconds since the Unix epoch.
        """
        with self._lock:
            watched = self._watched.get((model.name, cache))
            if watched is None or watched.count < watched.look_at:
                return []
            while watched.look_at <= watched.count:
                watched.look_at *= 2
            reordered, watched.reordered = watched.reordered, None
            planned = list(watched.planned)
        today = datetime.fromtimestamp(now, UTC).date()
        found = advise(cache, model, watched.tools, planned, today=today, reserved=reserved, is_read=watched.is_read)
        return found if reordered is None else [*found, reordered]

    def say(self, notices: Notices, model: Model, found: Iterable[Advice | None]) -> None:
        """Give the advice that this client has not given yet."""
        for advice in found:
            if advice is None:
                continue
            with self._lock:
                is_new = (advice.kind, model.name) not in self._said
                self._said.add((advice.kind, model.name))
            if is_new:
                notices.warn((advice.kind, model.name), advice.message, PromptCacheWarning)
