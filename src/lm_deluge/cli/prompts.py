"""Prompts and tools from what users have in files."""

from pathlib import Path
from typing import Any

from lm_deluge._json import NotJson
from lm_deluge._json import read_json as decode
from lm_deluge.cli.rows import Row
from lm_deluge.cli.terminal import say
from lm_deluge.errors import ConfigError, PromptError
from lm_deluge.prompt import Conversation, as_conversation
from lm_deluge.tool import Tool

__all__ = ["ToolsNote", "conversation_of", "last_text", "read_json", "read_tools"]


class ToolsNote:
    """Says that tools in rows are not sent, once, unless other tools are.

    Rows that were written for an API often have them, and answers without them look as if the model was to blame.
    """

    def __init__(self, *, sends_tools: bool) -> None:
        self._is_due = not sends_tools

    def see(self, row: Row) -> None:
        """Take in a row that will be asked."""
        if self._is_due and row.extra.get("tools"):
            self._is_due = False
            say(
                'Rows have a field "tools", which is passed through and not sent; '
                "--tools FILE sends tools with every prompt."
            )


def conversation_of(row: Row, system: Conversation | None = None) -> Conversation | str:
    """The prompt of a row, behind ``system`` if it has no system message of its own; or what is wrong with the row."""
    if row.problem is not None:
        return row.problem
    try:
        prompt = as_conversation(row.prompt)
    except PromptError as error:
        return f"Line {row.line} has a prompt that cannot be read: {error}"
    if system is None or any(message.role == "system" for message in prompt.messages):
        return prompt
    for message in prompt.messages:
        system = system.add(message)
    return system


def last_text(prompt: Conversation) -> str | None:
    """The text of the last message that has any."""
    texts = (message.completion for message in reversed(prompt.messages))
    return next((text for text in texts if text), None)


def read_tools(path: Path) -> list[Tool]:
    """Tools as providers' APIs write them: OpenAI's, with or without ``"function"``, or Anthropic's."""
    listed = read_json(path)
    if not isinstance(listed, list):
        raise ConfigError(f"{path} does not hold a list of tools.")
    return [_read_tool(item, f"Tool {number} of {path}") for number, item in enumerate(listed, 1)]


def _read_tool(item: Any, where: str) -> Tool:
    fields = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        raise ConfigError(f"{where} is not an object with a name.")
    return Tool(
        name=fields["name"],
        description=fields.get("description") or "",
        parameters=fields.get("parameters") or fields.get("input_schema") or {},
        strict=fields.get("strict"),
    )


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    try:
        return decode(path.read_bytes())
    except NotJson as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
