"""When a call may start, and whether a failed one is made again. Pure decisions over an injected clock."""

from lm_deluge.schedule.choice import Choice
from lm_deluge.schedule.fair_queue import APART, FairQueue
from lm_deluge.schedule.gate import Gate
from lm_deluge.schedule.limits import Limits
from lm_deluge.schedule.prefixes import PrefixScheduler, PrefixTicket
from lm_deluge.schedule.retry import RetryPolicy

__all__ = ["APART", "Choice", "FairQueue", "Gate", "Limits", "PrefixScheduler", "PrefixTicket", "RetryPolicy"]
