"""The local cache as a run uses it. A failure of the cache is a miss, and never the end of a run."""

import asyncio
from collections.abc import Sequence

from lm_deluge._clock import Clock
from lm_deluge.cache.admission import policy
from lm_deluge.cache.found import Found, RunContext
from lm_deluge.cache.leases import LeaseKeeper
from lm_deluge.cache.runs import Run
from lm_deluge.cache.user import Opener
from lm_deluge.cache.writer import Write
from lm_deluge.engine.item import Item
from lm_deluge.engine.report import Reporter
from lm_deluge.engine.settings import CacheMode
from lm_deluge.errors import CacheWarning
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.text import duration

__all__ = ["LocalCache", "Pending", "raise_if_cancelled"]

_FRESH_SECONDS = 1.0
_MOST_EXPLAINED = 100
_is_good = policy("answers")


class Pending:
    """Which prompts are looked up or wait for their calls, and which of those were answered meanwhile.

    Shared by a client's runs.

    So duplicates ask only until the first of them has finished, for the price of a dictionary look-up.
    """

    def __init__(self) -> None:
        self._waiting: dict[bytes, int] = {}
        self._answered: dict[bytes, Write] = {}

    def add(self, items: Sequence[Item]) -> None:
        """Prompts are about to be looked up, and will wait for their calls unless they are hits."""
        waiting = self._waiting
        for item in items:
            waiting[item.digest] = waiting.get(item.digest, 0) + 1

    def remove(self, item: Item) -> None:
        """A prompt has its response, or needs none any more."""
        left = self._waiting[item.digest] - 1
        if left:
            self._waiting[item.digest] = left
        else:
            del self._waiting[item.digest]
            self._answered.pop(item.digest, None)

    def arrived(self, item: Item, write: Write) -> None:
        """An answer is on its way into the cache: duplicates that are about to ask wait for it."""
        if self._waiting.get(item.digest, 0) > 1:  # none at all if its run has been cancelled meanwhile
            self._answered[item.digest] = write

    def answered(self, item: Item) -> Write | None:
        """Over once the answer of a duplicate is stored; None while none has come."""
        return self._answered.get(item.digest)


class LocalCache:
    """A run's view of the cache, if there is one, in the mode of the run.

    Args:
        opener: opens the cache; None if the run has none.
        context: the run, as the cache has to know it.
        pending: those of the client on this event loop.

    Attributes:
        mode: ``"use"``, ``"refresh"``, ``"bypass"`` or ``"offline"``.
    """

    def __init__(
        self,
        opener: Opener | None,
        context: RunContext,
        pending: Pending,
        *,
        mode: CacheMode,
        reporter: Reporter,
        clock: Clock,
    ) -> None:
        self.mode = mode
        self._cache = None if opener is None else opener(context)
        self._pending = pending
        self._models = frozenset(parameters.model for parameters in context.parameters)
        self._reporter = reporter
        self._counters = reporter.counters
        self._warnings = reporter.warnings
        self._clock = clock
        # Answers that were bought since the run began are as fresh as those that it would buy.
        self._since = self._cache.time() if self._cache is not None and mode == "refresh" else None
        self._explained = 0
        self._other_reported = False

    @property
    def keeps(self) -> bool:
        """Whether there is a cache to keep answers."""
        return self._cache is not None

    @property
    def location(self) -> str:
        """Where hits come from, for the account."""
        return "shared calls" if self._cache is None else self._cache.location

    def new_keeper(self) -> LeaseKeeper | None:
        """A holder of leases, by which all who share the cache agree on who fetches an answer."""
        return None if self._cache is None else self._cache.new_keeper()

    def key(self, item: Item) -> bytes:
        """What identifies an answer among those who share the cache."""
        return item.digest if self._cache is None else self._cache.key(item)

    async def look_up(self, items: Sequence[Item]) -> list[APIResponse | None]:
        """A response for each item that the cache knows, before anything is asked."""
        if self.mode == "refresh":
            return [None] * len(items)
        return await self._look_up(items)

    def may_know_by_now(self, item: Item) -> bool:
        """Just before a call: is it worth looking again?

        If a duplicate of this client was answered since; or if the first look is a while ago, as another process may
        have stored the answer.
        """
        if self._cache is None:
            return False
        return self._pending.answered(item) is not None or self._clock.monotonic() - item.looked_up > _FRESH_SECONDS

    async def look_again(self, item: Item) -> APIResponse | None:
        """The answer that was stored since the first look, if there is one."""
        answered = self._pending.answered(item)
        if answered is not None:
            await answered.over()
        (response,) = await self._look_up([item])
        return response

    def served(self, *hits: APIResponse) -> None:
        """Count hits, and tell."""
        self._reporter.hits(hits, store=self.location)

    def submit(
        self, item: Item, response: APIResponse, parameters: Parameters | None, *, is_first: bool
    ) -> Write | None:
        """Have an answer kept, even if the run ends; None if it is not to be kept. From any thread.

        Args:
            item: whose answer it is.
            response: the answer.
            parameters: what was asked beside the prompt, of the model that answered.
            is_first: False if the answer was submitted before, and has changed.
        """
        if self._cache is None:
            item.admitted = _is_good(response)
            return None
        try:
            if is_first:
                item.admitted = self._cache.admits(response)
                if not item.admitted:
                    self._counters.not_stored += 1
                    return None
            write = self._cache.submit(item, response, parameters)
        except BaseException as error:  # noqa: BLE001 - the answer goes to its caller all the same
            self._not_stored(error)
            return None
        if is_first:  # the second time only the cost is missing from what was told of the first time
            write.when_done(lambda done: None if done.failure is None else self._not_stored(done.failure))
        return write

    def _not_stored(self, error: BaseException) -> None:
        self.failed("an answer could not be stored", error, storing=True)

    @property
    def is_closed(self) -> bool:
        """Whether the cache was closed under the run."""
        return self._cache is not None and self._cache.is_closed

    async def explain_miss(self, item: Item) -> str:
        """Why an offline run has no answer."""
        reason = None
        if self._cache is not None and self._explained < _MOST_EXPLAINED:
            self._explained += 1
            try:
                reason = await self._cache.explain(item)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the miss is reported without a reason
                raise_if_cancelled(error)
                self.failed("a miss could not be explained", error)
        else:
            reason = f"The first {_MOST_EXPLAINED} misses say why; `deluge cache explain` tells for any prompt."
        return f"The run is offline and the cache {self.location} has no answer. {reason or ''}".rstrip()

    def record(self, run: Run) -> Write | None:
        """Hand over the account of the run, which is kept even if the run is killed. Never waits."""
        if self._cache is None:
            return None
        try:
            write = self._cache.record(run)
        except Exception as error:  # noqa: BLE001 - an account is not worth a run
            self._not_recorded(error)
            return None
        if write is not None:
            write.when_done(lambda done: None if done.failure is None else self._not_recorded(done.failure))
        return write

    def _not_recorded(self, error: BaseException) -> None:
        self.failed("the account of the run could not be kept", error)

    async def _look_up(self, items: Sequence[Item]) -> list[APIResponse | None]:
        if self._cache is None or not items:
            return [None] * len(items)
        try:
            found = await self._cache.get_many(items, since=self._since)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - a cache that fails is a miss, counted
            raise_if_cancelled(error)
            self.failed("an answer could not be looked up", error, count=len(items))
            found = [Found()] * len(items)
        now = self._clock.monotonic()
        hits: list[APIResponse | None] = []
        other: Found | None = None
        for item, outcome in zip(items, found, strict=True):
            item.looked_up = now
            response = outcome.response
            self._report(outcome)
            if response is None:
                hits.append(None)
                continue
            if outcome.differs or response.model_internal not in self._models:
                other = outcome
                self._counters.hits_of_other_requests += 1
            hits.append(item.hit(response, entry=outcome.entry))
        if other is not None and other.response is not None:
            await self._report_other(other, other.response.model_internal)
        return hits

    def _report(self, found: Found) -> None:
        if found.damage is not None:
            self._counters.damaged_entries += 1
            self._warnings.warn("damaged", f"A damaged cache entry counts as a miss: {found.damage}", CacheWarning)
        if found.failure is not None:
            self.failed("an answer could not be looked up", found.failure)

    async def _report_other(self, found: Found, stored: str) -> None:
        if self._other_reported:
            return
        self._other_reported = True
        how = None
        if self._cache is not None and found.entry is not None:
            try:
                how = await self._cache.differences(found.entry)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the warning does without
                raise_if_cancelled(error)
        own = ", ".join(sorted(self._models))
        what = (
            f"Answers of {stored!r} are served from the cache to a client of {own}"
            if stored not in self._models
            else "Answers that were asked with other parameters are served from the cache"
        )
        self._warnings.warn(
            "other request",
            f"{what}{f' ({how})' if how else ''}: with the scope 'conversation', any answer to a prompt will do. "
            "To keep them apart, use the scope 'request'.",
            CacheWarning,
        )

    def failed(self, what: str, error: BaseException | str, *, count: int = 1, storing: bool = False) -> None:
        """Count a failure of the cache, and warn of the first. From any thread."""
        self._counters.add_failure(count, storing=storing)
        detail = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._warnings.warn(
            "failure",
            f"The cache {self.location} failed: {what} ({detail}). The run goes on without it; "
            "further failures are counted, and told at the end.",
            CacheWarning,
        )

    def waited_too_long(self, seconds: float) -> None:
        """Say that a prompt has waited in vain for another to fetch its answer."""
        self._warnings.warn(
            "waited",
            f"For {duration(seconds)}, others who share {self.location} have been fetching an answer that has not "
            "come, so this run asks for it as well; it may be paid twice. If their calls may take that long, raise "
            "request_timeout.",
            CacheWarning,
        )


def raise_if_cancelled(error: BaseException) -> None:
    """Raise a cancellation of the task that we are in; not one that came out of other code as an error."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
