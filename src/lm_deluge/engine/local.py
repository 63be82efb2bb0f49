"""The local cache as a run uses it: it may fail, and then it is a miss; it is never the end of a batch."""

import asyncio
from collections.abc import Sequence

from lm_deluge._clock import Clock
from lm_deluge.cache.admission import is_admissible
from lm_deluge.cache.responses import Found
from lm_deluge.cache.user import EngineCache
from lm_deluge.engine.ledger import Ledger, as_hit
from lm_deluge.engine.notices import Notices
from lm_deluge.errors import CacheWarning
from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse

__all__ = ["Job", "LocalCache", "Pending", "raise_if_cancelled"]

_FRESH_SECONDS = 1.0


class Job:
    """One prompt that has to be answered.

    Attributes:
        id: the response's ``id``.
        prompt: loaded.
        digest: the prompt's.
        has_media: whether the prompt holds images or files.
        looked_up: when the cache was last asked for it, on the monotonic clock.
    """

    __slots__ = ("digest", "has_media", "id", "looked_up", "prompt")

    def __init__(self, id: int, prompt: Conversation, looked_up: float) -> None:
        self.id = id
        self.prompt = prompt
        self.digest = prompt.digest
        self.has_media = prompt.has_media
        self.looked_up = looked_up


class Pending:
    """Which prompts are looked up or wait for their calls, and which of those were answered meanwhile.

    Shared by a client's runs.

    So duplicates ask only until the first of them has finished, for the price of a dictionary look-up.
    """

    def __init__(self) -> None:
        self._waiting: dict[bytes, int] = {}
        self._answered: dict[bytes, asyncio.Event] = {}

    def add(self, jobs: Sequence[Job]) -> None:
        """Prompts are about to be looked up, and will wait for their calls unless they are hits."""
        waiting = self._waiting
        for job in jobs:
            waiting[job.digest] = waiting.get(job.digest, 0) + 1

    def remove(self, job: Job) -> None:
        """A prompt has its response, or needs none any more."""
        left = self._waiting[job.digest] - 1
        if left:
            self._waiting[job.digest] = left
        else:
            del self._waiting[job.digest]
            self._answered.pop(job.digest, None)

    def storing(self, job: Job) -> asyncio.Event | None:
        """An answer has come: duplicates that are about to ask wait for the event, to be set once it is stored.

        None if there is no duplicate.
        """
        if self._waiting[job.digest] == 1:
            return None
        return self._answered.setdefault(job.digest, asyncio.Event())

    def answered(self, job: Job) -> asyncio.Event | None:
        """Set once the answer of a duplicate is stored; None while none has come."""
        return self._answered.get(job.digest)


class LocalCache:
    """A run's view of the cache, if there is one."""

    def __init__(
        self,
        cache: EngineCache | None,
        pending: Pending,
        *,
        models: Sequence[str],
        ledger: Ledger,
        notices: Notices,
        clock: Clock,
    ) -> None:
        self._cache = cache
        self._pending = pending
        self._models = frozenset(models)
        self._ledger = ledger
        self._notices = notices
        self._clock = clock

    @property
    def keeps(self) -> bool:
        """Whether there is a cache to keep answers."""
        return self._cache is not None

    async def look_up(self, jobs: Sequence[Job]) -> list[APIResponse | None]:
        """A response for each job that the cache knows."""
        if self._cache is None or not jobs:
            return [None] * len(jobs)
        try:
            found = await self._cache.get_many([job.prompt for job in jobs])
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - a cache that fails is a miss, counted
            raise_if_cancelled(error)
            self._failed("looked up", len(jobs), error)
            found = [Found()] * len(jobs)
        now = self._clock.monotonic()
        for job in jobs:
            job.looked_up = now
        return [self._hit(job, outcome) for job, outcome in zip(jobs, found, strict=True)]

    def may_know_by_now(self, job: Job) -> bool:
        """Just before a call: is it worth looking again?

        If a duplicate of this client was answered since; or if the first look is a while ago, as another process may
        have stored the answer.
        """
        if self._cache is None:
            return False
        return self._pending.answered(job) is not None or self._clock.monotonic() - job.looked_up > _FRESH_SECONDS

    async def look_again(self, job: Job) -> APIResponse | None:
        """The answer that was stored since the first look, if there is one."""
        answered = self._pending.answered(job)
        if answered is not None:
            await answered.wait()
        (response,) = await self.look_up([job])
        return response

    async def store(self, job: Job, response: APIResponse) -> None:
        """Keep an answer. It is committed on return, or counted as lost to the cache."""
        if self._cache is None:
            return
        if not is_admissible(response):
            self._ledger.not_stored += 1
            return
        try:
            await self._cache.store(job.prompt, response)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the answer goes to its caller all the same
            raise_if_cancelled(error)
            self._failed("stored", 1, error)

    def _hit(self, job: Job, found: Found) -> APIResponse | None:
        if found.damage is not None:
            self._ledger.damaged_entries += 1
            self._notices.warn("damaged", f"A damaged cache entry counts as a miss: {found.damage}", CacheWarning)
        if found.failure is not None:
            self._failed("looked up", 1, found.failure)
        if found.response is None:
            return None
        if found.response.model_internal not in self._models:
            self._report_other_model(found.response.model_internal)
        return as_hit(found.response, id=job.id)

    def _report_other_model(self, stored: str) -> None:
        self._notices.warn(
            "other model",
            f"Answers of {stored!r} are served from the cache to a client of {', '.join(sorted(self._models))}: the "
            "key is the conversation alone. Give each model its own namespace, for example "
            f"SqliteCache(path, cache_key={sorted(self._models)[0]!r}), to keep them apart.",
            CacheWarning,
        )

    def _failed(self, done: str, count: int, error: BaseException | str) -> None:
        self._ledger.cache_failures += count
        location = self._cache.location if self._cache is not None else "?"
        detail = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._notices.warn(
            "failure",
            f"The cache {location} failed, so an answer could not be {done} ({detail}). The run goes on without it; "
            "further failures are counted in report.cache_failures.",
            CacheWarning,
        )


def raise_if_cancelled(error: BaseException) -> None:
    """Raise a cancellation of the task that we are in; not one that came out of somebody else's code as an error."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
