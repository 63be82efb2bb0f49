"""Who goes and when, and whether a failed attempt is made again. Decisions over a given time; the gate waits."""

from lm_deluge.schedule.choice import Choice
from lm_deluge.schedule.fair_queue import APART, FairQueue
from lm_deluge.schedule.gate import Admission, Gate
from lm_deluge.schedule.limits import Limits
from lm_deluge.schedule.pace import Pace
from lm_deluge.schedule.prefixes import PrefixScheduler, PrefixTicket
from lm_deluge.schedule.retry import RetryPolicy
from lm_deluge.schedule.scheduler import Scheduler
from lm_deluge.schedule.ticket import Attempt, Stage, Ticket
from lm_deluge.schedule.window import Window

__all__ = [
    "APART",
    "Admission",
    "Attempt",
    "Choice",
    "FairQueue",
    "Gate",
    "Limits",
    "Pace",
    "PrefixScheduler",
    "PrefixTicket",
    "RetryPolicy",
    "Scheduler",
    "Stage",
    "Ticket",
    "Window",
]
