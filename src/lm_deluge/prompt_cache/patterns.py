"""The patterns: a name says which blocks of a prompt get a breakpoint.

A breakpoint makes the provider store everything up to and including its block, so it belongs on the last block that
should be shared. Some blocks may not carry one (thinking, empty text); then the nearest one before does.

A pattern is a row of ``ROWS``; a new one is a row and a name in ``Pattern``. Most rows plan by one prompt alone. Those
that learn go by what many prompts share: see ``prefix_index``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import msgspec

from lm_deluge.errors import ConfigError
from lm_deluge.models.caching import LOOKBACK
from lm_deluge.prompt import Conversation, Message, ToolResult
from lm_deluge.prompt_cache.blocks import can_carry_breakpoint, run_of
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

__all__ = ["PATTERNS", "ROWS", "Pattern", "PatternRow", "beginning", "check_pattern", "end"]

Pattern = Literal[
    "system_and_tools",
    "tools_only",
    "last_user_message",
    "last_2_user_messages",
    "last_3_user_messages",
    "shared_prefix",
    "conversation",
    "automatic",
]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

_Places: TypeAlias = Callable[[Conversation, Sequence[Tool]], Sequence[Breakpoint]]


class PatternRow(msgspec.Struct, frozen=True, kw_only=True):
    """One pattern.

    Attributes:
        name: the value of ``cache=``.
        places: the breakpoints of one prompt, in the order in which the provider reads it. A system message anywhere in
            the conversation counts, for providers that keep system text apart read all of it first.
        lacking: why ``places`` found nothing in any of the prompts, for the advice that says so.
        goes_on: whether it is for prompts that go on from each other, so that the end of each is worth keeping.
        learns: whether breakpoints go by what many prompts share rather than by ``places``.
        leaves_place: whether the place is left to the provider, if it takes that; else it is the end of the prompt.
        has_own_ends: whether each prompt has a prefix of its own, to its end, which later prompts read.
    """

    name: Pattern
    places: _Places
    lacking: str = "the prompts have no user message with content"
    goes_on: bool = False
    learns: bool = False
    leaves_place: bool = False
    has_own_ends: bool = False


def check_pattern(pattern: str | None) -> Pattern | None:
    """The pattern, if it is one.

    Raises:
        ConfigError: it is not; the message lists those that are.
    """
    if pattern is None or pattern in PATTERNS:
        return pattern
    known = f"{pattern!r} is not a prompt cache pattern; known are {', '.join(PATTERNS)}."
    if not isinstance(pattern, str):
        raise ConfigError(f"{known} A local cache is an argument of the client, not of the call.")
    import difflib  # as slow to import as the rest of this module, and wanted for this message alone

    if pattern == "none":
        raise ConfigError(f"{known} For no caching at the provider, give no pattern.")
    close = difflib.get_close_matches(pattern, PATTERNS, n=1)
    raise ConfigError(f"{known} Did you mean {close[0]!r}?" if close else known)


def beginning(conversation: Conversation, tools: Sequence[Tool] = ()) -> tuple[Breakpoint, ...]:
    """The breakpoint behind what stays in a conversation: its system text and tools, or else its first message."""
    places = tuple(_system_and_tools(conversation, tools))
    if places or not conversation.messages:
        return places
    first = _last_carrier(conversation, [0])
    return () if first is None else (first,)


def end(conversation: Conversation) -> tuple[Breakpoint, ...]:
    """The breakpoint on the last block that may carry one, where a provider does not place it itself."""
    last = _last_carrier(conversation, range(len(conversation.messages)))
    return () if last is None else (last,)


def _system_and_tools(conversation: Conversation, tools: Sequence[Tool]) -> Sequence[Breakpoint]:
    # Providers read tools first and the system text next, so one breakpoint on the system text covers both.
    system = _last_system_block(conversation)
    return _last_tool(conversation, tools) if system is None else [system]


def _user_messages(conversation: Conversation, tools: Sequence[Tool], *, count: int) -> Sequence[Breakpoint]:
    places = (_last_carrier(conversation, unit) for unit in _user_units(conversation))
    return list(islice(filter(None, places), count))[::-1]


def _beginning_and_ends(conversation: Conversation, tools: Sequence[Tool]) -> Sequence[Breakpoint]:
    return [*_system_and_tools(conversation, tools), *reversed(_ends_of_requests(conversation))]


def _last_tool(conversation: Conversation, tools: Sequence[Tool]) -> Sequence[Breakpoint]:
    return [Breakpoint("tools", len(tools) - 1)] if tools else []


def _last_system_block(conversation: Conversation) -> Breakpoint | None:
    system = [index for index, message in enumerate(conversation.messages) if message.role == "system"]
    return _last_carrier(conversation, system)


def _user_units(conversation: Conversation) -> Iterator[list[int]]:
    """What the user wrote, newest first. The tool results of one agent turn are one unit, however many they are."""
    results: list[int] = []
    for index in range(len(conversation.messages) - 1, -1, -1):
        message = conversation.messages[index]
        if _holds_results(message):
            results.insert(0, index)
        elif message.role == "user":
            if results:
                yield results
                results = []
            yield [index]
    if results:
        yield results


def _ends_of_requests(conversation: Conversation) -> list[Breakpoint]:
    """Where this request ends, where the one before did, and perhaps one more; the newest first.

    A request ends with what the user or the tools said before the model's next turn. With a breakpoint where the last
    one wrote, this one reads it however many blocks came after. Nothing says that there was such a request: it may have
    failed, or two turns were added at once. What the one before that wrote is found by looking back, unless the turn
    between has more blocks than the look-back; then it gets the spare breakpoint.
    """
    ends: list[Breakpoint] = []
    unit: list[int] = []
    for index in range(len(conversation.messages) - 1, -1, -1):
        role = conversation.messages[index].role
        if role in ("user", "tool"):
            unit.insert(0, index)
        if unit and (role == "assistant" or index == 0):
            place = _last_carrier(conversation, unit)
            unit = []
            if place is not None:
                ends.append(place)
            if len(ends) == 3:
                break
    if len(ends) == 3 and blocks_between(conversation, ends[2], ends[1]) < LOOKBACK:
        ends.pop()
    return ends


def blocks_between(conversation: Conversation, first: Breakpoint, second: Breakpoint) -> int:
    """How many blocks a look-back from the second breakpoint has to step over before it comes to the first."""
    count, previous = 0, None
    for index in range(first.index, second.index + 1):
        message = conversation.messages[index]
        if message.role == "system":
            continue
        for position, part in enumerate(message.parts):
            if (first.index, first.part) < (index, position) <= (second.index, second.part):
                run = run_of(part)
                count += run is None or run != previous
                previous = run
    return count


def _holds_results(message: Message) -> bool:
    """Whether a message holds tool results and nothing that the user wrote."""
    if message.role == "user":
        return bool(message.parts) and all(isinstance(part, ToolResult) for part in message.parts)
    return message.role == "tool"


def _last_carrier(conversation: Conversation, indexes: Sequence[int]) -> Breakpoint | None:
    for index in reversed(indexes):
        parts = conversation.messages[index].parts
        for part in range(len(parts) - 1, -1, -1):
            if can_carry_breakpoint(parts[part]):
                return Breakpoint("messages", index, part)
    return None


_ROWS = (
    PatternRow(
        name="system_and_tools", places=_system_and_tools, lacking="the prompts have neither a system message nor tools"
    ),
    PatternRow(name="tools_only", places=_last_tool, lacking="the prompts have no tools"),
    PatternRow(name="last_user_message", places=partial(_user_messages, count=1), goes_on=True),
    PatternRow(name="last_2_user_messages", places=partial(_user_messages, count=2), goes_on=True),
    PatternRow(name="last_3_user_messages", places=partial(_user_messages, count=3), goes_on=True),
    PatternRow(name="shared_prefix", places=_system_and_tools, lacking="there is one prompt alone", learns=True),
    PatternRow(name="conversation", places=_beginning_and_ends, goes_on=True, has_own_ends=True),
    PatternRow(
        name="automatic", places=lambda conversation, tools: (), goes_on=True, leaves_place=True, has_own_ends=True
    ),
)

ROWS: Mapping[str, PatternRow] = MappingProxyType({row.name: row for row in _ROWS})
"""Every pattern by its name, in the order of ``PATTERNS``."""
