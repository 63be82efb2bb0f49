"""When a call may start, and whether a failed one is made again. Pure decisions over an injected clock."""

from lm_deluge.schedule.choice import Choice
from lm_deluge.schedule.gate import Gate
from lm_deluge.schedule.limits import Limits
from lm_deluge.schedule.line import APART, Line
from lm_deluge.schedule.retry import RetryPolicy
from lm_deluge.schedule.warmth import Turn, Warmth

__all__ = ["APART", "Choice", "Gate", "Limits", "Line", "RetryPolicy", "Turn", "Warmth"]
