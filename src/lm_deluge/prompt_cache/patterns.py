"""The patterns: a name says which blocks of a prompt get a breakpoint.

A breakpoint makes the provider store everything up to and including its block, so it belongs on the last block that
should be shared. Some blocks may not carry one (thinking, empty text); then the nearest one before does.

What can be told from one prompt is here. ``shared_prefix`` takes many prompts: see ``sharing``.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal, get_args

from lm_deluge.errors import ConfigError
from lm_deluge.prompt import Conversation, Message, ToolCall, ToolResult
from lm_deluge.prompt_cache.layout import can_carry_breakpoint
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

__all__ = ["GROWING", "PATTERNS", "Pattern", "beginning", "check_pattern", "end", "plan"]

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

GROWING = frozenset({"last_user_message", "last_2_user_messages", "last_3_user_messages", "conversation", "automatic"})
"""Patterns for prompts that go on from each other, so that the end of each is worth keeping."""

LOOKBACK = 20  # Anthropic, prompt caching guide: blocks, the marked one included

_USER_MESSAGES = {"last_user_message": 1, "last_2_user_messages": 2, "last_3_user_messages": 3}


def check_pattern(pattern: str | None) -> Pattern | None:
    """The pattern, if it is one.

    Raises:
        ConfigError: it is not; the message lists those that are.
    """
    if pattern is None or pattern in PATTERNS:
        return pattern
    known = f"{pattern!r} is not a prompt cache pattern; known are {', '.join(PATTERNS)}."
    if not isinstance(pattern, str):
        raise ConfigError(f"{known} A local cache object goes to LLMClient(cache=...).")
    import difflib  # as slow to import as the rest of this module, and wanted for this message alone

    if pattern == "none":
        raise ConfigError(f"{known} For no caching at the provider leave cache= out.")
    close = difflib.get_close_matches(pattern, PATTERNS, n=1)
    raise ConfigError(f"{known} Did you mean {close[0]!r}?" if close else known)


def plan(pattern: Pattern, conversation: Conversation, tools: Sequence[Tool] = ()) -> tuple[Breakpoint, ...]:
    """Where the breakpoints of a pattern go, in the order in which the provider reads the prompt.

    ``"automatic"`` has none of its own: the provider places it, or else see ``end``. ``"shared_prefix"`` of one prompt
    alone is what most prompts share, its system text and tools. A system message anywhere in the conversation counts,
    for providers that keep system text apart read all of it first.

    Raises:
        ConfigError: an unknown pattern.
    """
    check_pattern(pattern)
    found: list[Breakpoint] = []
    if pattern in ("system_and_tools", "shared_prefix"):
        # Providers read tools first and the system text next, so one mark on the system text covers both.
        system = _last_system_block(conversation)
        found = [system] if system is not None else _last_tool(tools)
    elif pattern == "tools_only":
        found = _last_tool(tools)
    elif pattern == "conversation":
        system = _last_system_block(conversation)
        found = [*_ends_of_requests(conversation), *([system] if system is not None else _last_tool(tools))]
    elif pattern in _USER_MESSAGES:
        marks = (_last_markable(conversation, unit) for unit in _user_units(conversation))
        found = list(islice(filter(None, marks), _USER_MESSAGES[pattern]))
    return tuple(reversed(found))


def beginning(conversation: Conversation, tools: Sequence[Tool] = ()) -> tuple[Breakpoint, ...]:
    """The mark on what stays while a conversation goes on: its system text and tools, or else its first message."""
    marks = plan("system_and_tools", conversation, tools)
    if marks or not conversation.messages:
        return marks
    first = _last_markable(conversation, [0])
    return () if first is None else (first,)


def end(conversation: Conversation) -> tuple[Breakpoint, ...]:
    """The mark on the last block that may carry one, where a provider does not place it itself."""
    last = _last_markable(conversation, range(len(conversation.messages)))
    return () if last is None else (last,)


def _last_tool(tools: Sequence[Tool]) -> list[Breakpoint]:
    return [Breakpoint("tools", len(tools) - 1)] if tools else []


def _last_system_block(conversation: Conversation) -> Breakpoint | None:
    system = [index for index, message in enumerate(conversation.messages) if message.role == "system"]
    return _last_markable(conversation, system)


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

    A request ends with what the user or the tools said before the model's next turn. With a mark where the last one
    wrote, this one reads it however many blocks came after. Nothing says that there was such a request: it may have
    failed, or two turns were added at once. What the one before that wrote is found by looking back, unless the turn
    between has more blocks than the look-back; then it gets the spare mark.
    """
    ends: list[Breakpoint] = []
    unit: list[int] = []
    for index in range(len(conversation.messages) - 1, -1, -1):
        role = conversation.messages[index].role
        if role in ("user", "tool"):
            unit.insert(0, index)
        if unit and (role == "assistant" or index == 0):
            mark = _last_markable(conversation, unit)
            unit = []
            if mark is not None:
                ends.append(mark)
            if len(ends) == 3:
                break
    if len(ends) == 3 and blocks_between(conversation, ends[2], ends[1]) < LOOKBACK:
        ends.pop()
    return ends


def blocks_between(conversation: Conversation, first: Breakpoint, second: Breakpoint) -> int:
    """How many blocks a look-back from the second mark has to step over before it comes to the first."""
    count, previous = 0, None
    for index in range(first.index, second.index + 1):
        message = conversation.messages[index]
        if message.role == "system":
            continue
        for position, part in enumerate(message.parts):
            if (first.index, first.part) < (index, position) <= (second.index, second.part):
                # Calls that follow each other count as one, and so do results.
                kind = type(part) if isinstance(part, (ToolCall, ToolResult)) else None
                count += kind is None or kind is not previous
                previous = kind
    return count


def _holds_results(message: Message) -> bool:
    """Whether a message holds tool results and nothing that the user wrote."""
    if message.role == "user":
        return bool(message.parts) and all(isinstance(part, ToolResult) for part in message.parts)
    return message.role == "tool"


def _last_markable(conversation: Conversation, indexes: Sequence[int]) -> Breakpoint | None:
    for index in reversed(indexes):
        parts = conversation.messages[index].parts
        for part in range(len(parts) - 1, -1, -1):
            if can_carry_breakpoint(parts[part]):
                return Breakpoint("messages", index, part)
    return None
