"""What the engine asks of a cache, and what it gets: the values between the two."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from lm_deluge.cache.leases import LeaseKeeper
from lm_deluge.cache.runs import Run
from lm_deluge.cache.writer import Write
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

__all__ = ["Asked", "EngineCache", "Found", "Prompt", "RunContext"]


class Asked(Protocol):
    """One prompt that is looked up or stored.

    Attributes:
        prompt: loaded.
        sample: which of several independent answers is meant; 0 unless more than one was asked for.
    """

    @property
    def prompt(self) -> Conversation: ...

    @property
    def sample(self) -> int: ...


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """A prompt that is looked up or stored by itself."""

    prompt: Conversation
    sample: int = 0


class Found(msgspec.Struct, frozen=True, gc=False):
    """What a lookup of one prompt gave.

    Attributes:
        response: the stored response as it was put, or None.
        entry: the key of the entry that holds it.
        differs: whether it was asked of another model or with other parameters.
        damage: what was wrong with a stored entry that did not decode, if there was one; another may have done.
        failure: why the cache could not be asked, if it could not.
    """

    response: APIResponse | None = None
    entry: bytes | None = None
    differs: bool = False
    damage: str | None = None
    failure: str | None = None


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache has to know of a run.

    Attributes:
        parameters: what is asked beside the prompts, of each model that may answer.
        max_age: seconds; older answers do not count.
        samples: how many independent answers are wanted for each prompt.
        run: its id; 0 if it has no account.
    """

    parameters: tuple[Parameters, ...] = ()
    max_age: float | None = None
    samples: int = 1
    run: int = 0


class EngineCache(Protocol):
    """A cache as one run uses it. Everything asynchronous may raise; the engine counts that and goes on."""

    def new_keeper(self) -> LeaseKeeper:
        """A holder of leases, by which all who share the cache agree on who fetches an answer."""
        ...

    def key(self, asked: Asked) -> bytes:
        """What identifies an answer among those who share the cache."""
        ...

    def admits(self, response: APIResponse) -> bool:
        """Whether a response is worth keeping."""
        ...

    async def get_many(self, asked: Sequence[Asked], *, since: float | None = None) -> list[Found]:
        """What there is for each prompt, in order.

        Args:
            asked: the prompts.
            since: only what was stored at that time or later, in seconds since the Unix epoch.
        """
        ...

    def submit(self, asked: Asked, response: APIResponse, parameters: Parameters | None) -> Write:
        """Accept a response: it will be stored even if this run or its event loop ends.

        Called from any thread; never waits. The write can be awaited, and has the key of the entry where there is one.

        Args:
            asked: the prompt.
            response: its answer.
            parameters: what was asked beside the prompt, of the model that answered.

        Raises:
            Exception: it is not accepted: the cache is closed, for example.
        """
        ...

    @property
    def is_closed(self) -> bool:
        """Whether the cache takes nothing any more, so that nothing should be bought for it either."""
        ...

    async def differences(self, entry: bytes) -> str | None:
        """How the request of an entry differs from those of this run, in words, where the cache knows."""
        ...

    async def explain(self, asked: Asked) -> str | None:
        """Why a prompt is a miss, in a sentence, where the cache knows."""
        ...

    def record(self, run: Run) -> Write | None:
        """Accept the account of a run: it will be kept. None where it is already, or where the cache keeps none."""
        ...

    def time(self) -> float:
        """Now, on the clock by which the cache tells the age of entries, in seconds since the Unix epoch."""
        ...

    @property
    def location(self) -> str:
        """Where the entries are, for messages."""
        ...
