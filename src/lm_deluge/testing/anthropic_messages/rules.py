"""What the Anthropic API refuses although the shape is right: rules over more than one field."""

import itertools
from typing import Any

from msgspec import UNSET

from lm_deluge.testing.anthropic_messages import models, shapes
from lm_deluge.testing.anthropic_messages.errors import dotted
from lm_deluge.testing.anthropic_messages.media import check_media
from lm_deluge.testing.anthropic_messages.prompt import Position, breakpoints, content_digest
from lm_deluge.testing.anthropic_messages.signatures import is_bound_to, is_genuine
from lm_deluge.testing.decoding import Rejection

__all__ = ["NO_SAMPLING_VERSION", "check_generation", "check_prompt"]

NO_SAMPLING_VERSION = "2026-10-21"
_MAX_BREAKPOINTS = 4
_MAX_STRICT_TOOLS = 20
_MAX_OPTIONAL_PARAMETERS = 24
_MAX_UNION_PARAMETERS = 16
_THINKING_REFUSED = {
    "enabled": '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
    '"output_config.effort" to control thinking behavior.',
    "adaptive": "adaptive thinking is not supported on this model",
}

Tools = list[shapes.Tool | shapes.ServerTool]


def check_prompt(
    request: shapes.CountTokensRequest, tools: Tools, sequence: list[Position], *, version: str
) -> tuple[str, ...]:
    """Rules that hold for generation and for token counting.

    Returns:
        the URLs that the API would download.

    Raises:
        Rejection: the API would refuse the request.
    """
    _check_messages(request)
    _check_roles(sequence, version)
    _check_tool_results(sequence)
    _check_tools(request, tools)
    _check_thinking_config(request)
    _check_breakpoints(request, tools, sequence)
    _check_signatures(request, sequence)
    return check_media(sequence)


def check_generation(request: shapes.MessagesRequest, *, version: str) -> None:
    """Rules that hold for generation alone.

    Raises:
        Rejection: the API would refuse the request.
    """
    _check_sampling(request, version)
    if isinstance(request.messages[-1], shapes.AssistantMessage):
        _check_prefill(request)
    if any(not sequence.strip() for sequence in request.stop_sequences):
        raise Rejection("stop_sequences: each stop sequence must contain non-whitespace")
    _check_thinking_limits(request)
    if request.max_tokens == 0:
        _check_prewarm(request)


def _check_messages(request: shapes.CountTokensRequest) -> None:
    if not request.messages:
        raise Rejection("messages: at least one message is required")
    if isinstance(request.messages[0], shapes.AssistantMessage):
        raise Rejection('messages: first message must use the "user" role')
    last = len(request.messages) - 1
    for index, message in enumerate(request.messages):
        if not message.content and not (index == last and isinstance(message, shapes.AssistantMessage)):
            raise Rejection(
                f"messages.{index}: all messages must have non-empty content except for the optional final "
                "assistant message"
            )
        if isinstance(message.content, str) and message.content and not message.content.strip():
            raise Rejection("messages: text content blocks must contain non-whitespace text")


def _check_roles(sequence: list[Position], version: str) -> None:
    """Which blocks may stand in whose messages, and that no text is empty."""
    for position in sequence:
        block, place = position.block, dotted(position.path)
        match block:
            case shapes.Text():
                _check_text(block, place)
                if version == NO_SAMPLING_VERSION and position.role == "user" and block.citations:
                    raise Rejection(f"{place}.citations: citations are not allowed on text blocks of user messages")
            case shapes.ToolUse() | shapes.Thinking() | shapes.RedactedThinking() if position.role != "assistant":
                kind = block.__struct_config__.tag
                raise Rejection(f"{place}: `{kind}` blocks can only be in `assistant` messages")
            case shapes.ToolResult():
                if position.role != "user":
                    raise Rejection(f"{place}: `tool_result` blocks can only be in `user` messages")
                for index, inner in enumerate(block.content if isinstance(block.content, list) else ()):
                    if isinstance(inner, shapes.Text):
                        _check_text(inner, f"{place}.content.{index}")
            case shapes.Document() if position.role == "assistant" and version == NO_SAMPLING_VERSION:
                raise Rejection(f"{place}: `document` blocks are not allowed in `assistant` messages")


def _check_text(block: shapes.Text, place: str) -> None:
    if not block.text and block.cache_control is not None:
        raise Rejection(f"{place}.cache_control: cache_control cannot be set for empty text blocks")
    if not block.text:
        raise Rejection(f"{place.partition('.')[0]}: text content blocks must be non-empty")
    if not block.text.strip():
        raise Rejection(f"{place.partition('.')[0]}: text content blocks must contain non-whitespace text")


def _turns(sequence: list[Position]) -> list[list[Position]]:
    """Positions of the messages by turn: consecutive messages of one role are one turn."""
    turns: list[list[Position]] = []
    for position in sequence:
        if position.level == "messages" and position.role != "system":
            if not turns or turns[-1][0].role != position.role:
                turns.append([])
            turns[-1].append(position)
    return turns


def _check_tool_results(sequence: list[Position]) -> None:
    """Each call is answered, once, at the start of the next user turn; each result answers a call."""
    used: set[str] = set()
    pending: dict[str, Position] = {}
    for turn in _turns(sequence):
        answered: set[str] = set()
        for each in turn:
            if isinstance(each.block, shapes.ToolResult):
                identity = each.block.tool_use_id
                if identity not in pending or identity in answered:
                    raise Rejection(
                        f"{dotted(each.path)}: unexpected `tool_use_id` found in `tool_result` blocks: {identity}. "
                        "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                    )
                answered.add(identity)
        first = itertools.takewhile(lambda each: isinstance(each.block, shapes.ToolResult), turn)
        _check_answered(pending, {each.block.tool_use_id for each in first})
        pending = {}
        for each in turn:
            if isinstance(each.block, shapes.ToolUse):
                if each.block.id in used:
                    raise Rejection("messages: `tool_use` ids must be unique")
                used.add(each.block.id)
                pending[each.block.id] = each
    _check_answered(pending, set())


def _check_answered(calls: dict[str, Position], answered: set[str]) -> None:
    missing = [identity for identity in calls if identity not in answered]
    if missing:
        raise Rejection(
            f"messages.{calls[missing[0]].message}: `tool_use` ids were found without `tool_result` blocks immediately "
            f"after: {', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
            "next message."
        )


def _check_tools(request: shapes.CountTokensRequest, tools: Tools) -> None:
    names = [tool.name for tool in tools if tool.name]
    if len(set(names)) != len(names):
        raise Rejection("tools: Tool names must be unique.")
    for index, tool in enumerate(tools):
        if isinstance(tool, shapes.Tool) and tool.input_schema.get("type") != "object":
            raise Rejection(f"tools.{index}.custom.input_schema.type: Field required to be 'object'")
    strict = [tool for tool in tools if isinstance(tool, shapes.Tool) and tool.strict]
    if len(strict) > _MAX_STRICT_TOOLS:
        raise Rejection(f"tools: at most {_MAX_STRICT_TOOLS} tools may be strict")
    optional, unions = map(sum, zip((0, 0), *(_freedom(tool.input_schema) for tool in strict), strict=True))
    if optional > _MAX_OPTIONAL_PARAMETERS:
        raise Rejection(f"tools: strict tools may have at most {_MAX_OPTIONAL_PARAMETERS} optional parameters together")
    if unions > _MAX_UNION_PARAMETERS:
        raise Rejection(f"tools: strict tools may have at most {_MAX_UNION_PARAMETERS} union-typed parameters together")
    choice = request.tool_choice
    if choice is None:
        return
    if not tools and not isinstance(choice, shapes.ToolChoiceNone):
        raise Rejection("tool_choice: may only be specified while providing tools")
    if isinstance(choice, shapes.ToolChoiceTool) and choice.name not in names:
        raise Rejection(f"Tool '{choice.name}' not found in provided tools")
    if isinstance(choice, shapes.ToolChoiceAny | shapes.ToolChoiceTool):
        if models.rejects_forced_tools(request.model):
            raise Rejection(f"tool_choice: forcing tool use is not supported by {request.model}")
        if isinstance(request.thinking, shapes.ThinkingEnabled | shapes.ThinkingAdaptive):
            raise Rejection("Thinking may not be enabled when tool_choice forces tool use.")


def _freedom(schema: Any) -> tuple[int, int]:
    """How many properties of a schema are optional, and how many are of a union type, at any depth."""
    if not isinstance(schema, dict):
        return 0, 0
    properties = schema.get("properties") or {}
    optional = sum(name not in (schema.get("required") or ()) for name in properties)
    unions = sum(
        isinstance(each, dict) and ("anyOf" in each or isinstance(each.get("type"), list))
        for each in properties.values()
    )
    for inner in (*properties.values(), schema.get("items")):
        more_optional, more_unions = _freedom(inner)
        optional, unions = optional + more_optional, unions + more_unions
    return optional, unions


def _check_thinking_config(request: shapes.CountTokensRequest) -> None:
    if request.thinking is not None:
        kind = str(request.thinking.__struct_config__.tag)
        if models.rejects_thinking(request.model, kind):
            raise Rejection(_THINKING_REFUSED.get(kind, f'"thinking.type.{kind}" is not supported for this model.'))


def _check_breakpoints(request: shapes.CountTokensRequest, tools: Tools, sequence: list[Position]) -> None:
    for index, tool in enumerate(tools):
        if tool.defer_loading and tool.cache_control is not None:
            raise Rejection(f"tools.{index}.cache_control: a tool with defer_loading cannot have cache_control")
    found = [each for position in sequence for each in breakpoints(position)]
    automatic = request.cache_control
    last = next((each for each in reversed(sequence) if each.cacheable), None)
    if automatic is not None and last is not None:
        own = breakpoints(last)
        if own and own[-1][1] != automatic.ttl:
            raise Rejection("cache_control: the last block already has cache_control with a different ttl")
        if not own:
            found.append((("cache_control",), automatic.ttl))
    if len(found) > _MAX_BREAKPOINTS:
        raise Rejection(
            f"A maximum of {_MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {len(found)}."
        )
    short = False
    for path, ttl in found:
        if ttl == "1h" and short:
            raise Rejection(
                f"{dotted(path)}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
                "`messages`."
            )
        short = short or ttl == "5m"


def _check_signatures(request: shapes.CountTokensRequest, sequence: list[Position]) -> None:
    start = 0
    for at, position in enumerate(sequence):
        if position.role != "assistant":
            start = at + 1
        elif isinstance(position.block, shapes.Thinking):
            block, place = position.block, dotted(position.path)
            if not is_genuine(block.signature, block.thinking):
                raise Rejection(f"{place}: Invalid `signature` in `thinking` block")
            if models.binds_thinking(request.model) and not is_bound_to(
                block.signature, content_digest(sequence[:start])
            ):
                raise Rejection(
                    f"{place}: Invalid `signature` in `thinking` block. The block is bound to a different conversation."
                )


def _check_thinking_limits(request: shapes.MessagesRequest) -> None:
    thinking = request.thinking
    if isinstance(thinking, shapes.ThinkingEnabled):
        if request.max_tokens and request.max_tokens <= thinking.budget_tokens:
            raise Rejection("`max_tokens` must be greater than `thinking.budget_tokens`")
        if request.top_k not in (UNSET, 0):
            raise Rejection("`top_k` must be unset when thinking is enabled")
        if request.top_p is not UNSET and request.top_p < 0.95:
            raise Rejection("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled")
    if (
        isinstance(thinking, shapes.ThinkingEnabled | shapes.ThinkingAdaptive)
        and request.temperature is not UNSET
        and request.temperature != 1
    ):
        raise Rejection("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode")


def _check_sampling(request: shapes.MessagesRequest, version: str) -> None:
    given = {
        name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(request, name)) is not UNSET
    }
    if given and version == NO_SAMPLING_VERSION:
        raise Rejection(f"{next(iter(given))}: Extra inputs are not permitted")
    if models.rejects_sampling(request.model):
        for name, value in given.items():
            if name == "top_k" or value != 1:
                raise Rejection(f"`{name}` is not supported for this model")


def _check_prefill(request: shapes.MessagesRequest) -> None:
    if models.rejects_prefill(request.model):
        raise Rejection(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    content = request.messages[-1].content
    last = content if isinstance(content, str) else getattr(content[-1], "text", "") if content else ""
    if last != last.rstrip():
        raise Rejection("messages: final assistant content cannot end with trailing whitespace")


def _check_prewarm(request: shapes.MessagesRequest) -> None:
    """``max_tokens: 0`` fills the prompt cache and generates nothing."""
    output = request.output_config
    conflicts = {
        "stream": request.stream,
        "thinking.type: enabled": isinstance(request.thinking, shapes.ThinkingEnabled),
        "output_config.format": output is not None and output.format is not None,
        "a forced tool_choice": isinstance(request.tool_choice, shapes.ToolChoiceAny | shapes.ToolChoiceTool),
    }
    for name, conflict in conflicts.items():
        if conflict:
            raise Rejection(f"max_tokens: 0 cannot be combined with {name}")
