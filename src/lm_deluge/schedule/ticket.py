"""What an attempt asks of the scheduler, and the ticket that it gets: values, and the table of a ticket's stages."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule.fair_queue import APART

if TYPE_CHECKING:
    from lm_deluge.errors import LMDelugeError
    from lm_deluge.schedule.prefixes import PrefixTicket
    from lm_deluge.schedule.scheduler import Scheduler

__all__ = ["TRANSITIONS", "Attempt", "Stage", "Ticket", "table"]


class Stage(Enum):
    """Where a ticket is."""

    NEW = "new"
    FOLLOWER = "follower"
    LEADER = "leader"
    SLOT = "slot"
    PAUSE = "pause"
    QUEUE = "queue"
    HEAD = "head"
    READY = "ready"
    SENT = "sent"
    DONE = "done"
    REST = "rest"
    OVER = "over"


_START = (Stage.FOLLOWER, Stage.LEADER, Stage.SLOT)
_WITH_A_SLOT = (Stage.READY, Stage.HEAD, Stage.QUEUE, Stage.PAUSE, *_START)  # the start, if its prefix has ended

TRANSITIONS: Mapping[Stage, tuple[str, tuple[Stage, ...]]] = {
    Stage.NEW: ("nothing yet", (*_START, Stage.REST)),
    Stage.FOLLOWER: ("the answer to its leader to begin", _START),
    Stage.LEADER: ("the prompts that came with it, which become followers", (Stage.SLOT,)),
    Stage.SLOT: ("a slot", _WITH_A_SLOT),
    Stage.PAUSE: ("the end of a pause of its model", _WITH_A_SLOT),
    Stage.QUEUE: ("its turn at the limits", _WITH_A_SLOT),
    Stage.HEAD: ("the limits to refill", _WITH_A_SLOT),
    Stage.READY: ("its request to be sent", (Stage.SENT, *_START)),
    Stage.SENT: ("its answer", (Stage.DONE, *_START)),
    Stage.DONE: ("what else is to be sent, if it was a prefill", _START),
    Stage.REST: ("the time of its retry", (Stage.READY,)),
    Stage.OVER: ("nothing more", ()),
}
"""What a ticket waits for in each stage, and the stages that may come next. ``OVER`` may come after each."""


def table() -> str:
    """The stages as a table in Markdown."""
    lines = ["| stage | the ticket waits for | next |", "| --- | --- | --- |"]
    for stage, (what, following) in TRANSITIONS.items():
        lines.append(f"| {stage.value} | {what} | {', '.join(each.value for each in following)} |")
    return "\n".join(lines)


class Attempt(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One attempt at a prompt, as far as the scheduler has to know it.

    Attributes:
        model: whose pauses count.
        tokens: its share of the limit of tokens.
        prefixes: the prefixes of its breakpoints, the shortest first.
        prefill: tokens of a request that only writes the prefix, to be sent first if others wait for it; None if there
            is none.
        on_wait: called with 1 when the attempt starts to wait for its prefix, or for the time of its retry, and with -1
            when that is over; then also with the seconds that it took, or with None if it has been cancelled.
    """

    model: str
    tokens: float
    prefixes: tuple[Prefix, ...] = ()
    prefill: float | None = None
    on_wait: Callable[[int, float | None], None] | None = None


class Ticket(msgspec.Struct, eq=False):
    """An attempt on its way. The scheduler alone changes it.

    Attributes:
        scheduler: whose ticket it is.
        attempt: whose way it is.
        stage: where it is.
        prefix: what the prefix scheduler has said; None if the attempt has no prefix, or once that is settled.
        is_prefill: whether the request to be sent is the one that only writes the prefix.
        problem: why the attempt will not be made, if so.
        queued: seconds from when it asked for a slot until it was let go.
        is_woken: whether it can move on.
        until: when it can move on although it was not woken, on the clock that ``now`` comes from; None for never.
        waiter: what the driver keeps beside it.
    """

    scheduler: "Scheduler"
    attempt: Attempt
    stage: Stage = Stage.NEW
    prefix: "PrefixTicket | None" = None
    is_prefill: bool = False
    is_prefilled: bool = False
    problem: "LMDelugeError | None" = None
    has_slot: bool = False
    queued: float = 0.0
    since: float = 0.0  # when it entered the stage that is timed: follower, slot, rest
    is_woken: bool = False
    until: float | None = None
    retry_at: float = 0.0
    waiter: object = None

    @property
    def group(self) -> bytes | None:
        """With whom it takes turns in the fair queues."""
        return APART if self.prefix is None else self.prefix.group

    @property
    def share(self) -> float:
        """What the request to be sent takes from the limit of tokens."""
        return self.attempt.prefill or 0.0 if self.is_prefill else self.attempt.tokens
