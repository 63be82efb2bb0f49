"""How a Claude model is asked to think, which every generation wants said differently.

Claude 3.7 to 4.6 take a budget of tokens; from 4.6 on thinking is adaptive and steered by an effort; the 5 generation
thinks unless told not to, and some of it cannot be told (Anthropic, extended thinking, adaptive thinking and effort
guides). Rules go by the family's naming, so a model of tomorrow is treated as its newest known relative.
"""

import re
from typing import Any

import msgspec

from lm_deluge.config import SamplingParams
from lm_deluge.models import Model

__all__ = ["ThinkingPlan", "plan_thinking"]

_GENERATION_5 = re.compile(r"claude-[a-z]+-([5-9]|\d\d)(?!\d)")
_TAKES_BUDGET = re.compile(r"claude-(3-7-sonnet|(opus|sonnet|haiku)-4(-[0-6])?(?!-?\d(?!\d)))")
_ADAPTIVE = re.compile(r"claude-((opus|sonnet)-4-[6-9]|[a-z]+-([5-9]|\d\d))(?!\d)")
_ALWAYS_THINKS = re.compile(r"claude-(opus-5-5|fable|mythos)")
_THINKS_FIRST = re.compile(r"claude-sonnet-5-5")


class ThinkingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into the body.

    Attributes:
        thinking: the ``thinking`` object; None leaves the model's default.
        effort: ``output_config.effort``; None leaves the model's default.
        dropped: parameters of the user's that the model has no place for.
    """

    thinking: dict[str, Any] | None = None
    effort: str | None = None
    dropped: tuple[str, ...] = ()

    @property
    def is_on(self) -> bool:
        """Whether the body turns thinking on, which rules other parameters out."""
        return self.thinking is not None and self.thinking["type"] in ("enabled", "adaptive")


def plan_thinking(model: Model, params: SamplingParams) -> ThinkingPlan:
    """How ``reasoning_effort`` and ``thinking_budget`` are said to this model.

    An effort of ``"none"`` turns thinking off where that is possible and asks for the lowest effort where it is not;
    ``"minimal"``, which Claude does not have, is its lowest. A budget that the model does not take turns adaptive
    thinking on without one.
    """
    effort, budget = params.reasoning_effort, params.thinking_budget
    if effort is None and budget is None:
        return _NOTHING
    model_id = model.api_name.rpartition("/")[2]
    dropped: list[str] = []
    thinking: dict[str, Any] | None = None
    if budget is not None:
        # An id that is not Claude's belongs to the server at the address: it is trusted to take what the API has.
        if _TAKES_BUDGET.match(model_id) or not model_id.startswith("claude-"):
            thinking = {"type": "enabled", "budget_tokens": budget}
        else:
            dropped.append("thinking_budget")
            thinking = {"type": "adaptive"} if _ADAPTIVE.match(model_id) else None
    elif effort == "none":
        thinking = _turned_off(model_id)
        effort = "low" if _ALWAYS_THINKS.match(model_id) else None
    elif _ADAPTIVE.match(model_id):
        thinking = {"type": "adaptive"}
    if effort in ("none", "minimal"):
        effort = "low"
    if effort is not None and not model.reasoning:
        dropped.append("reasoning_effort")
        effort = None
    return ThinkingPlan(thinking=thinking, effort=effort, dropped=tuple(dropped))


_NOTHING = ThinkingPlan()


def _turned_off(model_id: str) -> dict[str, Any] | None:
    if not _GENERATION_5.match(model_id) or _ALWAYS_THINKS.match(model_id):
        return None
    return {"type": "between_tools" if _THINKS_FIRST.match(model_id) else "disabled"}
