"""What ``deluge simulate`` does: rows to an estimate, and that to what people or programs read."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from typing import Any

import msgspec

from lm_deluge import LLMClient
from lm_deluge.cli.bills import IMAGE_TOKENS, are_same, price_list, print_bills
from lm_deluge.cli.output import plain, print_json
from lm_deluge.cli.prompts import ToolsNote, conversation_of
from lm_deluge.cli.settings import Settings
from lm_deluge.cli.stores import open_cache_to_read
from lm_deluge.cli.terminal import say
from lm_deluge.errors import PromptCacheWarning
from lm_deluge.models import Model, resolve
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import Estimate, PromptCache
from lm_deluge.prompt_cache.advice import lifetime_differs
from lm_deluge.prompt_cache.blocks import rough_tokens
from lm_deluge.prompt_cache.estimate import Bill
from lm_deluge.providers import wire_format
from lm_deluge.text import counted
from lm_deluge.tool import Tool

__all__ = ["Simulation", "carry_out"]


class Simulation(Settings, frozen=True, kw_only=True):
    """A ``deluge simulate``, as it was asked for."""

    output_tokens: int | None = None
    patterns: Sequence[PromptCache] = ()  # to compare with none at all
    as_json: bool = False


class _Rows(msgspec.Struct):
    """What was found while the rows were read."""

    problems: list[str] = []  # of those that cannot be asked
    longest: int = 0  # tokens of a prompt


def carry_out(asked: Simulation) -> int:
    """Print the bills and return the exit code."""
    tools = asked.read_tools()
    (name,) = asked.client["model_names"]
    model = resolve(name, base_url=asked.client.get("base_url"), environ=os.environ)
    if asked.patterns and (advice := lifetime_differs(asked.patterns[0], model)):
        warnings.warn(advice.message, PromptCacheWarning, stacklevel=2)
    local = None if asked.cache is None else open_cache_to_read(asked.cache, asked.cache_options)
    if local is None and asked.cache is not None:
        say("The local cache is not there yet, so nothing is answered from it.")
    rows = _Rows()
    with nullcontext() if local is None else closing(local), LLMClient(**asked.client, cache=local) as client:
        estimate = client.estimate(
            _prompts(asked, rows),
            patterns=asked.patterns,
            output_tokens=asked.output_tokens,
            tools=tools,
            samples=asked.each,
            **asked.call,
        )
    if rows.problems:
        unusable = len(rows.problems) * asked.each
        estimate = msgspec.structs.replace(
            estimate,
            prompts=estimate.prompts + unusable,
            unusable=estimate.unusable + unusable,
            problem=rows.problems[0],
        )
    if asked.as_json:
        print_json(_as_data(estimate))
    elif not estimate.prompts:
        say(f"No prompts in {asked.source_name}.")
    else:
        why_alike = _why_alike(estimate, model, tools, longest=rows.longest)
        print_bills(estimate, asked.client, samples=asked.each, why_alike=why_alike)
    if estimate.unusable:
        cannot = counted(estimate.unusable, "prompt cannot be asked and is", "prompts cannot be asked and are")
        say(f"{cannot} left out{'. One of them' if estimate.unusable > 1 else ''}: {estimate.problem}")
    return 1 if estimate.prompts and estimate.unusable == estimate.prompts else 0


def _prompts(asked: Simulation, rows: _Rows) -> Iterator[Conversation]:
    """Prompts that can be asked. What is wrong with the other rows is added to the problems."""
    system = asked.system_prompt()
    tools_note = ToolsNote(sends_tools=asked.tools is not None)
    for row in asked.rows():
        found = conversation_of(row, system)
        if isinstance(found, str):
            rows.problems.append(found)
        else:
            tools_note.see(row)
            rows.longest = max(rows.longest, found.count_tokens(img_tokens=IMAGE_TOKENS))
            yield found


def _why_alike(estimate: Estimate, model: Model, tools: Sequence[Tool], *, longest: int) -> str | None:
    """Why every pattern has the bill that there is without any; None where one has another.

    ``longest`` is how many tokens the longest prompt has behind its tools.
    """
    none = estimate[None]
    if not all(are_same(each.cold, none.cold) and are_same(each.warm, none.warm) for each in estimate.forecasts):
        return None
    if not model.caching.takes_instructions:
        return "its provider takes no instructions for its cache, and may cache prompts on its own"
    longest += sum(rough_tokens(tool, wire_format(model)) for tool in tools)
    minimum = model.cache_minimum
    if longest < minimum:
        return (
            f"the longest prompt has about {counted(longest, 'token')}, and the model caches nothing below {minimum:,}"
        )
    if none.warm.reads:
        return "its provider caches prompts on its own, and nothing is added to that"
    where = "".join(f". {advice.rstrip('.')}" for advice in estimate.advice)
    return f"no place for a breakpoint is found behind enough tokens to be cached{where}"


def _as_data(estimate: Estimate) -> dict[str, Any]:
    """All of it, with the best pattern; null stands for none."""
    is_priced = estimate[None].cold.cost is not None
    return {
        **plain(estimate),
        "best": estimate.best.pattern,
        "prices": price_list() if is_priced else None,
        "forecasts": [
            {
                "pattern": each.pattern,
                "advice": list(each.advice),
                "cold": _bill_data(each.cold),
                "warm": _bill_data(each.warm),
                "unwarmed": None if each.unwarmed is None else _bill_data(each.unwarmed),
            }
            for each in estimate.forecasts
        ],
    }


def _bill_data(bill: Bill) -> dict[str, Any]:
    return {**plain(bill), "hit_ratio": bill.hit_ratio}
