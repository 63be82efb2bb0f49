"""A request as the body of ``POST /v1/messages``.

Two rules of the API shape this module. Roles alternate, so the messages of one side that follow each other become one.
Blocks without visible text are refused, so they are left out, and a message that holds nothing else with them.
"""

import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from lm_deluge.config import SamplingParams
from lm_deluge.errors import PromptError
from lm_deluge.models import Model
from lm_deluge.prompt import (
    Conversation,
    File,
    Image,
    Message,
    Part,
    ProviderBlock,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from lm_deluge.providers._breakpoints import BREAKPOINT_STYLES, BreakpointWriter
from lm_deluge.providers._places import check_place
from lm_deluge.providers.anthropic.layout import is_result, is_sent
from lm_deluge.providers.anthropic.thinking import plan_thinking
from lm_deluge.request import Request
from lm_deluge.tool import Tool

__all__ = ["VERSION", "build_body", "can_prefill", "dropped_parameters"]

VERSION = "2023-06-01"
"""The API version that is sent. It takes everything that this module writes, and every gateway knows it."""

DEFAULT_MAX_TOKENS = 4_096
"""The API requires a limit; this one holds where the user gave none."""

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")  # Anthropic, vision guide
_FOREIGN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_UNKNOWN_PARAMETERS = ("logprobs", "top_logprobs", "seed")  # not in the Messages API

Block = dict[str, Any]
_Written = tuple[Part, Block]


def dropped_parameters(model: Model, params: SamplingParams, *, has_schema: bool) -> tuple[str, ...]:
    """Names of the parameters that are set and not sent."""
    plan = plan_thinking(model, params)
    dropped = [name for name in _UNKNOWN_PARAMETERS if params.is_set(name)]
    if params.json_mode and not has_schema:
        dropped.append("json_mode")
    left_out = _left_out(model, params, thinks=plan.is_on)
    dropped += [name for name in ("temperature", "top_p") if name in left_out and params.is_set(name)]
    return (*dropped, *plan.dropped)


def build_body(request: Request, *, stream: bool) -> dict[str, Any]:
    """The body, before the user's ``extra_body``. Raises what ``WireFormat.body`` says."""
    caching = request.model.caching
    breakpoints = BreakpointWriter(caching, request.breakpoints, reserved=1 if request.automatic_cache else 0)
    body: dict[str, Any] = {"model": request.model.api_name}
    _add_sampling(body, request)
    if request.prefill:
        body["max_tokens"] = 0
    if request.automatic_cache:
        body["cache_control"] = BREAKPOINT_STYLES["cache_control"].write(caching.ttl(request.cache_ttl))
    # In the order in which the provider reads them, which is the order of its cache: tools, system, messages.
    if request.tools:
        body["tools"] = [_tool(tool, index, breakpoints) for index, tool in enumerate(request.tools)]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    system = _system(request.conversation, breakpoints)
    messages = _messages(request.conversation, breakpoints)
    if system:  # shortened only now, because a breakpoint may have moved back into it
        body["system"] = _shortest(system)
    body["messages"] = [{"role": role, "content": _shortest(blocks)} for role, blocks in messages]
    if request.diagnose and caching.diagnostics:
        body["diagnostics"] = {"previous_message_id": _message_id(request.previous_response_id)}
    if stream:
        body["stream"] = True
    return body


def can_prefill(request: Request) -> bool:
    """Whether ``max_tokens: 0`` is taken (Anthropic, prompt caching guide). The output format shapes the prompt."""
    plan = plan_thinking(request.model, request.params)
    thinks = plan.thinking is not None and plan.thinking["type"] == "enabled"
    forces = bool(request.tools) and request.tool_choice not in (None, "auto", "none")
    return not (thinks or forces or request.output_schema is not None)


def _add_sampling(body: dict[str, Any], request: Request) -> None:
    params = request.params
    plan = plan_thinking(request.model, params)
    left_out = _left_out(request.model, params, thinks=plan.is_on)
    budget = plan.thinking.get("budget_tokens", 0) if plan.thinking else 0
    # The limit counts thinking too, so a default has to leave room for the answer.
    body["max_tokens"] = params.max_new_tokens or DEFAULT_MAX_TOKENS + budget
    if params.temperature is not None and "temperature" not in left_out:
        body["temperature"] = params.temperature
    if params.top_p is not None and "top_p" not in left_out:
        body["top_p"] = params.top_p
    if params.stop:
        body["stop_sequences"] = params.stop
    if plan.thinking is not None:
        body["thinking"] = plan.thinking
    output: dict[str, Any] = {}
    if plan.effort is not None:
        output["effort"] = plan.effort
    if request.output_schema is not None:
        output["format"] = {"type": "json_schema", "schema": request.output_schema}
    if output:
        body["output_config"] = output


def _left_out(model: Model, params: SamplingParams, *, thinks: bool) -> frozenset[str]:
    # Anthropic, extended thinking guide: not compatible with changes of temperature and the like.
    rejected = model.rejected(params.reasoning_effort)
    return rejected | {"temperature", "top_p"} if thinks else rejected


def _tool(tool: Tool, index: int, breakpoints: BreakpointWriter) -> Block:
    block: Block = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description:
        block["description"] = tool.description
    if tool.strict is not None:
        block["strict"] = tool.strict
    breakpoints.visit("tools", index, 0, block)
    return block


_TOOL_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def _tool_choice(choice: str) -> dict[str, str]:
    known = _TOOL_CHOICES.get(choice)
    return {"type": known} if known else {"type": "tool", "name": choice}


def _system(conversation: Conversation, breakpoints: BreakpointWriter) -> list[Block]:
    """System text stands apart from the messages, wherever in the conversation it was given."""
    return [
        block
        for index, message in enumerate(conversation.messages)
        if message.role == "system"
        for _, block in _written(message, index, breakpoints)
    ]


def _messages(conversation: Conversation, breakpoints: BreakpointWriter) -> list[tuple[str, list[Block]]]:
    turns: list[tuple[str, list[_Written]]] = []
    for index, message in enumerate(conversation.messages):
        if message.role == "system":
            continue
        written = _written(message, index, breakpoints)
        if not written:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(written)
        else:
            turns.append((role, written))
    if not turns:
        raise PromptError("Nothing is left to send: the prompt has no user message with content. Add one.")
    return [(role, [block for _, block in _results_first(written)]) for role, written in turns]


def _results_first(written: list[_Written]) -> list[_Written]:
    """Sorting keeps the order of each kind."""
    return sorted(written, key=lambda each: not is_result(each[0])) if len(written) > 1 else written


def _shortest(blocks: list[Block]) -> str | list[Block]:
    """One plain text needs no block around it."""
    match blocks:
        case [{"type": "text", "text": str(text)}] if len(blocks[0]) == 2:
            return text
    return blocks


def _written(message: Message, index: int, breakpoints: BreakpointWriter) -> list[_Written]:
    """The parts of a message that are sent, each with its block."""
    written: list[_Written] = []
    for position, part in enumerate(message.parts):
        check_place(part, message, index)
        block = _WRITERS[type(part)](part) if is_sent(part) else None
        if block is not None:
            written.append((part, block))
        breakpoints.visit("messages", index, position, block if breakpoints.takes(part, block) else None)
    return written


def _text(part: Text) -> Block:
    return {"type": "text", "text": part.text}


def _image(part: Image) -> Block:
    if part.url is not None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    loaded = part.load()
    if loaded.media_type not in _IMAGE_TYPES:
        raise PromptError(
            f"Anthropic takes images as {', '.join(_IMAGE_TYPES)}, not as {loaded.media_type}. Convert the image."
        )
    # The JSON encoder writes bytes as base64, without a copy in between.
    return {"type": "image", "source": {"type": "base64", "media_type": loaded.media_type, "data": loaded.data}}


def _document(part: File) -> Block:
    block: Block = {"type": "document", "source": _document_source(part)}
    if part.filename:
        block["title"] = part.filename
    return block


def _document_source(part: File) -> Block:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    loaded = part.load()
    data = loaded.data or b""
    if loaded.media_type == "application/pdf":
        return {"type": "base64", "media_type": "application/pdf", "data": data}
    try:
        return {"type": "text", "media_type": "text/plain", "data": data.decode("utf-8")}
    except UnicodeDecodeError as error:
        raise PromptError(
            f"Anthropic takes PDF and UTF-8 text; a file of type {loaded.media_type} is neither. Convert it."
        ) from error


def _tool_use(part: ToolCall) -> Block:
    return {"type": "tool_use", "id": _tool_id(part.id), "name": part.name, "input": part.arguments}


def _tool_result(part: ToolResult) -> Block:
    content: str | list[Block]
    if isinstance(part.result, str):
        content = part.result
    else:
        sent = filter(is_sent, part.result)
        content = [_text(item) if isinstance(item, Text) else _image(item) for item in sent] or ""
    block: Block = {"type": "tool_result", "tool_use_id": _tool_id(part.tool_call_id), "content": content}
    if part.is_error:
        block["is_error"] = True
        block["content"] = content or "error"  # an error without content is refused
    return block


def _tool_id(id: str) -> str:
    """Ids of other providers may hold characters that this one refuses."""
    return _FOREIGN_ID.sub("_", id)


def _message_id(response_id: str | None) -> str | None:
    """Where several models take turns, the answer before may be another provider's, whose ids are refused."""
    return response_id if response_id is not None and response_id.startswith("msg_") else None


def _thinking(part: Thinking) -> Block:
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


_WRITERS: Mapping[type[Part], Callable[[Any], Block]] = {
    Text: _text,
    Image: _image,
    File: _document,
    ToolCall: _tool_use,
    ToolResult: _tool_result,
    Thinking: _thinking,
    ProviderBlock: attrgetter("block"),
}
