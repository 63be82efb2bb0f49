"""What is wrong with how prompts are cached, in words: what happens, why, and what to do about it.

Providers say none of this. A breakpoint behind a prefix that is too short, or on a block that changes, costs money in
silence.
"""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import Literal, TypeAlias

import msgspec

from lm_deluge import canonical
from lm_deluge.models import Caching, Model
from lm_deluge.prompt import Conversation, Message
from lm_deluge.prompt_cache.divergence import divergence
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.prompt_cache.options import PromptCache
from lm_deluge.prompt_cache.planner import CachePlan
from lm_deluge.prompt_cache.prefix import Prefix, least_of
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

__all__ = [
    "Advice",
    "advise",
    "advise_ahead",
    "lifetime_differs",
    "lifetimes_out_of_order",
    "no_breakpoint",
    "nothing_continued",
    "nothing_read",
    "nothing_shared",
    "prefix_too_short",
    "retired",
    "too_many_breakpoints",
    "tools_reordered",
    "unsupported",
]

Planned: TypeAlias = tuple[Conversation, CachePlan]

_ENOUGH = 3  # prompts; two that differ may be an accident
_BATCH = 10  # so many answers at once are no single conversation, and so many turns are a long one


class Advice(msgspec.Struct, frozen=True):
    """One thing worth saying.

    Attributes:
        kind: which, so that it is said once.
        message: for the user.
    """

    kind: Literal[
        "unsupported",
        "too_short",
        "no_breakpoint",
        "nothing_shared",
        "nothing_read",
        "tools_reordered",
        "too_many",
        "ttl_order",
        "ttl",
        "retired",
    ]
    message: str


def advise(
    cache: PromptCache,
    model: Model,
    tools: Sequence[Tool],
    planned: Sequence[Planned],
    *,
    reserved: int = 0,
    answers: int = 0,
    longest: Prefix | None = None,
    is_read: bool = False,
) -> list[Advice]:
    """What can be said of prompts that were sent, by some of them.

    Nothing is said that is not true of all the others too.

    Args:
        cache: what the user asked for.
        model: where the prompts go.
        tools: the tools that all of them have.
        planned: some of the prompts with their plans, no prompt twice.
        reserved: breakpoints that requests carry besides, for example in ``extra_body``.
        answers: how many answers the run had that is over.
        longest: the longest prefix of all of them; None for what ``planned`` tells.
        is_read: whether any prompt was seen to read what another wrote.
    """
    found: list[Advice | None] = [*_of_own_breakpoints(cache, model, tools, planned, reserved=reserved)]
    prefixes = [plan.prefixes[-1] for _, plan in planned if plan.prefixes]
    if longest is not None:
        prefixes.append(longest)
    if not prefixes:
        if not any(each is not None and each.kind == "too_many" for each in found):
            found.append(no_breakpoint(cache, model, tools, planned))
        if not is_read and any(_is_enough(prompt.count_tokens(), model) for prompt, _ in planned):
            found.append(nothing_continued(model, tools, planned) if cache.row.leaves_place else None)
    elif not is_read:
        # Of the longest, for a shorter one inside it may well be below the minimum.
        too_short = prefix_too_short(max(prefixes, key=lambda each: each.tokens), model)
        if too_short is None:
            varies = nothing_continued if cache.row.has_own_ends else nothing_shared
            found.append(varies(model, tools, planned))
        elif not cache.goes_on or answers >= _BATCH or any(_turns(prompt) >= _BATCH for prompt, _ in planned):
            found.append(too_short)  # and not where a chat has only begun
    return [each for each in found if each is not None]


def advise_ahead(cache: PromptCache, model: Model, *, today: date) -> list[Advice]:
    """What can be said before any prompt is known. ``today`` is for models that are switched off."""
    found = (lifetime_differs(cache, model), retired(model, today))
    return [each for each in found if each is not None]


def prefix_too_short(prefix: Prefix, model: Model) -> Advice | None:
    """A prefix that the model does not cache. The provider answers as if it had not been asked to."""
    if prefix.is_cacheable:
        return None
    return Advice(
        "too_short",
        f"The cached part of the prompts has about {prefix.tokens:,} tokens, and {model.name} caches nothing below "
        f"{prefix.minimum:,}. Put more of what the prompts share before the breakpoint, or use no pattern.",
    )


def no_breakpoint(cache: PromptCache, model: Model, tools: Sequence[Tool], planned: Sequence[Planned]) -> Advice | None:
    """A pattern that finds no place for a breakpoint, in any of the prompts."""
    caching = model.caching
    if cache.row.leaves_place or not planned or not caching.takes_instructions:
        return None
    if any(plan.prefixes for _, plan in planned):
        return None
    is_on_tools = any(each.section == "tools" for _, plan in planned for each in plan.breakpoints)
    if is_on_tools and "tool" not in caching.carriers:
        return Advice(
            "no_breakpoint",
            f"{model.name} takes no cache breakpoint on tools, so the pattern {cache.pattern!r} has no effect. "
            "Give the prompts a system message and use 'system_and_tools', which covers the tools too.",
        )
    if cache.row.learns and len(planned) > 1:
        parting = divergence(Reader(model, tools), planned[0][0], planned[1][0])
        if _is_enough(parting.tokens + parting.tokens_inside, model):
            return Advice(
                "no_breakpoint",
                f"The pattern 'shared_prefix' has no effect. {parting.where} A breakpoint stands behind a whole block. "
                "Put what the prompts share into a message, or a part of one, of its own.",
            )
        return Advice(
            "no_breakpoint",
            f"The pattern 'shared_prefix' has no effect: what the prompts begin with alike is too short. "
            f"{parting.where} Move what varies behind what they share, or use no pattern.",
        )
    return Advice(
        "no_breakpoint",
        f"The pattern {cache.pattern!r} has no effect: {cache.row.lacking}. Use another one.",
    )


def nothing_shared(model: Model, tools: Sequence[Tool], planned: Sequence[Planned]) -> Advice | None:
    """A breakpoint on what varies: every prompt writes a prefix of its own, and none reads another's."""
    cached = [each for each in planned if each[1].prefixes and each[1].prefixes[-1].is_cacheable]
    ids = [prefix.id for _, plan in cached for prefix in plan.prefixes if prefix.is_cacheable]
    if len(cached) < _ENOUGH or len(set(ids)) < len(ids):
        return None
    parting = divergence(Reader(model, tools), cached[0][0], cached[1][0])
    if _is_enough(parting.tokens, model):
        remedy = "Move what varies behind what they share, or use the pattern 'shared_prefix'."
    elif _is_enough(parting.tokens + parting.tokens_inside, model):
        remedy = "Put what they share into a message, or a part of one, of its own."
    else:
        remedy = "Move what varies behind what they share."
    return Advice(
        "nothing_shared",
        f"The cached part differs in every one of the latest {len(cached)} prompts, so none reads what another has "
        "written. "
        f"{parting.where} {remedy}",
    )


def nothing_continued(model: Model, tools: Sequence[Tool], planned: Sequence[Planned]) -> Advice | None:
    """Turns of one conversation of which none reads what the one before wrote, because something before them varies."""
    turns: dict[Message | None, list[Conversation]] = {}
    for prompt, _ in planned:
        turns.setdefault(next((each for each in prompt.messages if each.role != "system"), None), []).append(prompt)
    longest = max(turns.values(), key=len, default=[])
    if len(longest) < _ENOUGH or not any(_turns(prompt) for prompt in longest):
        return None
    parting = divergence(Reader(model, tools), longest[0], longest[1])
    if parting.goes_on:
        return None
    return Advice(
        "nothing_shared",
        f"No turn of a conversation reads what the one before has written. {parting.where} Move what varies behind "
        "what the turns share, for example into the latest message.",
    )


def nothing_read(cache: PromptCache | None, model: Model, used: Usage, answers: int) -> Advice | None:
    """Ends of prompts that the provider wrote to its cache by itself, and that no prompt of a whole run has read."""
    if answers < _BATCH or used.cache_read_tokens or not used.cache_write_tokens:
        return None
    if cache is not None and not cache.row.has_own_ends:
        return None
    return Advice(
        "nothing_read",
        f"{model.name} wrote {used.cache_write_tokens:,} tokens of {answers:,} prompts to its cache, which costs more "
        "than plain input, and none of the prompts has read any. Where prompts do not go on from each other, the "
        "pattern 'shared_prefix' caches what they share; `deluge simulate` and client.estimate() compare the patterns.",
    )


def unsupported(cache: PromptCache, model: Model) -> Advice:
    """A provider that takes neither breakpoints nor keys."""
    return Advice(
        "unsupported",
        f"{model.name} ({model.service.name}) takes no cache breakpoints, so the pattern {cache.pattern!r} has no "
        "effect; its provider may cache prompts on its own. Use no pattern to silence this.",
    )


def tools_reordered(before: Sequence[Tool], after: Sequence[Tool]) -> Advice | None:
    """The same tools in another order. They are the first thing that is read, so everything after them is lost."""
    if [tool.name for tool in before] == [tool.name for tool in after]:
        changed = next((one.name for one, two in zip(before, after, strict=True) if _is_shuffled(one, two)), None)
        if changed is None:
            return None
        what = f"The schema of tool {changed!r} has its keys in another order"
    elif sorted(tool.name for tool in before) == sorted(tool.name for tool in after):
        what = "The same tools come in another order"
    else:
        return None
    return Advice(
        "tools_reordered",
        f"{what} than in the request before, so the provider's cache is lost from the first tool on. "
        "Keep the order, for example by sorting them by name.",
    )


def too_many_breakpoints(breakpoints: Sequence[Breakpoint], caching: Caching, *, reserved: int = 0) -> Advice | None:
    """More breakpoints than the provider takes."""
    asked = len(breakpoints) + reserved
    if not caching.takes_breakpoints or asked <= caching.max_breakpoints:
        return None
    if reserved > caching.max_breakpoints:
        return Advice(
            "too_many",
            f"The prompts' own blocks hold {reserved} cache breakpoints, and a request takes "
            f"{caching.max_breakpoints}, so the provider refuses it. Remove some.",
        )
    return Advice(
        "too_many",
        f"{asked} cache breakpoints are asked for, and a request takes {caching.max_breakpoints}. "
        "Those in the prompts' own blocks come first, and some of the pattern's are left out. Set fewer of your own.",
    )


def lifetimes_out_of_order(breakpoints: Sequence[Breakpoint], caching: Caching) -> Advice | None:
    """A lasting breakpoint behind a short-lived one, which Anthropic refuses. They come in the order of reading."""
    for before, after in pairwise(breakpoints):
        if caching.seconds(caching.ttl(before.ttl)) < caching.seconds(caching.ttl(after.ttl)):
            return Advice(
                "ttl_order",
                f"A cache breakpoint of {after.ttl} stands behind one of {before.ttl or 'the default lifetime'}; "
                f"providers want the longest first. Give the first one a lifetime of {after.ttl} too.",
            )
    return None


def lifetime_differs(cache: PromptCache, model: Model) -> Advice | None:
    """A lifetime that the provider does not have."""
    caching = model.caching
    got = caching.ttl(cache.ttl)
    if cache.ttl is None or got == cache.ttl:
        return None
    if got is None:
        return Advice(
            "ttl",
            f"{model.name} gives no choice of how long it keeps what it caches, so the lifetime of {cache.ttl} has no "
            "effect. Leave it out to silence this.",
        )
    return Advice(
        "ttl",
        f"{model.name} has no cache lifetime of {cache.ttl}; {got} is used. "
        f"Known there: {', '.join(caching.lifetimes)}.",
    )


def retired(model: Model, today: date) -> Advice | None:
    """A model that its maker has switched off, or will within a month."""
    if model.retired is None or (model.retired - today).days > 30:
        return None
    tense = "stopped being served" if model.retired <= today else "stops being served"
    return Advice(
        "retired",
        f"{model.name} {tense} on {model.retired.isoformat()}. Choose its successor; caches do not carry over.",
    )


def _of_own_breakpoints(
    cache: PromptCache, model: Model, tools: Sequence[Tool], planned: Sequence[Planned], *, reserved: int
) -> list[Advice]:
    """What is wrong with breakpoints that the user set, alone or beside ours."""
    reader = Reader(model, tools)
    found: list[Advice | None] = []
    for conversation, plan in planned[:_ENOUGH]:
        theirs = [
            Breakpoint(*block.place, ttl=block.own_breakpoint)
            for block in reader.blocks(conversation)
            if block.own_breakpoint is not None
        ]
        if theirs or reserved:
            # Where one prompt alone does not tell, the plan does.
            one_tells = not (cache.row.learns or cache.row.leaves_place)
            wanted = cache.row.places(conversation, tools) if one_tells else plan.breakpoints
            found.append(too_many_breakpoints(wanted, model.caching, reserved=reserved + len(theirs)))
            found.append(lifetimes_out_of_order(theirs, model.caching))
    return [each for each in found if each is not None]


def _turns(conversation: Conversation) -> int:
    return sum(message.role == "assistant" for message in conversation.messages)


def _is_enough(tokens: int, model: Model) -> bool:
    return tokens >= least_of(model)


def _is_shuffled(one: Tool, two: Tool) -> bool:
    schemas = one.parameters, two.parameters
    return len(set(map(canonical.encode, schemas))) == 1 and len(set(map(msgspec.json.encode, schemas))) == 2
