"""The documented patterns: a name says which blocks of a prompt get a breakpoint.

A breakpoint makes the provider store everything up to and including its block, so it belongs on the last block that
should be shared. Some blocks may not carry one (thinking, empty text); then the nearest one before does.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal, cast, get_args

from lm_deluge.errors import ConfigError
from lm_deluge.prompt import Conversation, File, Image, Message, Part, Text, ToolCall, ToolResult
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

__all__ = ["PATTERNS", "Pattern", "check_pattern", "plan"]

Pattern = Literal[
    "system_and_tools",
    "tools_only",
    "last_user_message",
    "last_2_user_messages",
    "last_3_user_messages",
    "automatic",
]
PATTERNS: tuple[str, ...] = get_args(Pattern)

_USER_MESSAGES = {"last_user_message": 1, "last_2_user_messages": 2, "last_3_user_messages": 3}


def check_pattern(pattern: str | None) -> Pattern | None:
    """The pattern, if it is one.

    Raises:
        ConfigError: it is not; the message lists those that are.
    """
    if pattern is None or pattern in PATTERNS:
        return cast("Pattern | None", pattern)
    raise ConfigError(
        f"{pattern!r} is not a prompt cache pattern; known are {', '.join(PATTERNS)}. "
        "A local cache object goes to LLMClient(cache=...)."
    )


def plan(pattern: Pattern, conversation: Conversation, tools: Sequence[Tool] = ()) -> tuple[Breakpoint, ...]:
    """Where the breakpoints of a pattern go, in the order in which the provider reads the prompt.

    ``"automatic"`` has none of its own: the provider places it. A system message anywhere in the conversation counts,
    for providers that keep system text apart read all of it first.

    Raises:
        ConfigError: an unknown pattern.
    """
    check_pattern(pattern)
    found: list[Breakpoint] = []
    if pattern == "system_and_tools":
        # Providers read tools first and the system text next, so one mark on the system text covers both.
        system = _last_system_block(conversation)
        found = [system] if system is not None else _last_tool(tools)
    elif pattern == "tools_only":
        found = _last_tool(tools)
    elif pattern in _USER_MESSAGES:
        marks = (_last_markable(conversation, unit) for unit in _user_units(conversation))
        found = list(islice(filter(None, marks), _USER_MESSAGES[pattern]))
    return tuple(reversed(found))


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


def can_carry_breakpoint(part: Part) -> bool:
    """Whether a provider takes a mark on this part: not on thinking, and not on empty text.

    Anthropic, prompt caching guide. A block that only one provider knows gets none either, for most of those take none.
    """
    if isinstance(part, Text):
        return bool(part.text) and not part.text.isspace()  # providers count blank text as empty
    return isinstance(part, (Image, File, ToolCall, ToolResult))
