"""A request as the body of ``POST /chat/completions``.

The form is read by many servers, so the plainest form that says the same thing is chosen: a string rather than an array
of one text part, and no field that was not asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from lm_deluge.config import SamplingParams
from lm_deluge.errors import PromptError
from lm_deluge.models import Model
from lm_deluge.prompt import File, Image, Message, Part, ProviderBlock, Text, ToolCall, ToolResult
from lm_deluge.providers._breakpoints import BreakpointWriter
from lm_deluge.providers._places import check_place
from lm_deluge.providers.openai_chat.layout import is_sent
from lm_deluge.request import Request
from lm_deluge.tool import Tool

__all__ = ["build_body", "dropped_parameters"]

_SENT = ("temperature", "top_p", "logprobs", "top_logprobs", "seed", "stop", "reasoning_effort")

Block = dict[str, Any]


def dropped_parameters(model: Model, params: SamplingParams) -> tuple[str, ...]:
    """Names of the parameters that are set and not sent."""
    left_out = _left_out(model, params)
    dropped = [name for name in _SENT if name in left_out and params.is_set(name)]
    return (*dropped, "thinking_budget") if params.thinking_budget is not None else tuple(dropped)


def build_body(request: Request, *, stream: bool) -> dict[str, Any]:
    """The body, before the user's ``extra_body``. Raises what ``WireFormat.body`` says."""
    breakpoints = BreakpointWriter(request.model.caching, request.breakpoints)
    body: dict[str, Any] = {"model": request.model.api_name}
    _add_sampling(body, request)
    if request.tools:
        body["tools"] = [_tool(tool, index, breakpoints) for index, tool in enumerate(request.tools)]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
    body["messages"] = _messages(request.conversation.messages, breakpoints)
    for message in body["messages"]:  # at the end, because a breakpoint may still move back to an earlier message
        _shorten(message)
    _add_cache_options(body, request, breakpoints=breakpoints.count)
    if stream:
        body["stream"] = True
        if request.model.service.takes_stream_options:
            body["stream_options"] = {"include_usage": True}
    return body


def _add_sampling(body: dict[str, Any], request: Request) -> None:
    model, params = request.model, request.params
    left_out = _left_out(model, params)
    if params.max_new_tokens is not None:
        body[model.service.max_tokens_field] = params.max_new_tokens
    for name in _SENT:
        if params.is_set(name) and name not in left_out:
            body[model.service.seed_field if name == "seed" else name] = getattr(params, name)
    if request.output_schema is not None:
        schema = {"name": "answer", "schema": request.output_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif params.json_mode:
        body["response_format"] = {"type": "json_object"}


def _add_cache_options(body: Block, request: Request, *, breakpoints: int) -> None:
    """Options of models that also cache the end of each prompt, unless that is turned off (prompt caching guide)."""
    caching = request.model.caching
    if not caching.caches_tail:
        return
    options: Block = {}
    tail = not breakpoints if request.cache_tail is None else request.cache_tail
    if not tail:  # without a breakpoint this turns all caching off
        options["mode"] = "explicit"
    elif breakpoints or request.automatic_cache:
        ttl = caching.ttl(request.cache_ttl)
        if ttl is not None:
            options["ttl"] = ttl
    if options:
        body["prompt_cache_options"] = options


def _left_out(model: Model, params: SamplingParams) -> frozenset[str]:
    rejected = model.rejected(params.reasoning_effort)
    # Of a model that is not in the catalogue it is not known whether it reasons, so the user's word counts.
    return rejected | {"reasoning_effort"} if model.known and not model.reasoning else rejected


def _tool(tool: Tool, index: int, breakpoints: BreakpointWriter) -> Block:
    function: Block = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    block: Block = {"type": "function", "function": function}
    breakpoints.visit("tools", index, 0, block)
    return block


def _tool_choice(choice: str) -> str | Block:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


class _Writer:
    """Writes the messages one after the other.

    Attributes:
        written: the messages so far, every content an array.
    """

    def __init__(self, breakpoints: BreakpointWriter) -> None:
        self.written: list[Block] = []
        self._breakpoints = breakpoints
        self._images: list[Block] = []  # of tool results, until the user message after them

    def add(self, index: int, message: Message) -> None:
        content: list[Block] = []
        calls: list[Block] = []
        if message.role in ("system", "assistant"):
            self.flush()
        for position, part in enumerate(message.parts):
            check_place(part, message, index)
            block: Block | None = None
            if isinstance(part, ToolResult):
                block = self._add_result(part)
            elif isinstance(part, ToolCall):
                calls.append(_tool_call(part))
            elif is_sent(part):
                content.append(block := _WRITERS[type(part)](part))
            # Empty text takes no breakpoint anywhere.
            takes_breakpoint = self._breakpoints.takes(part, block) and block is not None and block.get("text") != ""
            self._breakpoints.visit("messages", index, position, block if takes_breakpoint else None)
        if calls:
            self.written.append({"role": "assistant", "content": content, "tool_calls": calls})
        elif content or any(type(part) is Text for part in message.parts):
            role = "user" if message.role == "tool" else message.role
            self.written.append({"role": role, "content": self._images + content})
            self._images = []

    def flush(self) -> None:
        """Write the images that wait for a user message."""
        if self._images:
            self.written.append({"role": "user", "content": self._images})
            self._images = []

    def _add_result(self, part: ToolResult) -> Block:
        """Write a tool message and return its last text. It holds no images: those go to the next user message."""
        items = (Text(part.result),) if isinstance(part.result, str) else part.result
        content = [_text_block(item.text) for item in items if isinstance(item, Text) and is_sent(item)]
        images = [_image(item) for item in items if isinstance(item, Image)]
        if images:
            noun = "image" if len(images) == 1 else "images"
            content.append(_text_block(f"[{len(images)} {noun}: see the next user message]"))
            self._images += [_text_block(f"[{noun} of tool result {part.tool_call_id}]"), *images]
        content = content or [_text_block("")]
        self.written.append({"role": "tool", "tool_call_id": part.tool_call_id, "content": content})
        return content[-1]


def _messages(messages: Sequence[Message], breakpoints: BreakpointWriter) -> list[Block]:
    writer = _Writer(breakpoints)
    for index, message in enumerate(messages):
        writer.add(index, message)
    writer.flush()
    if not writer.written:
        raise PromptError("Nothing is left to send: the prompt has no message with content. Add one.")
    return writer.written


def _shorten(message: Block) -> None:
    """One plain text needs no array around it, and a message of tool calls alone no content."""
    match message["content"]:
        case []:
            if "tool_calls" in message:
                del message["content"]
            else:
                message["content"] = ""
        case [{"type": "text", "text": str(text)} as only] if len(only) == 2:
            message["content"] = text


def _text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def _image(part: Image) -> Block:
    image_url: Block = {"url": part.url or part.data_url()}
    if part.detail is not None:
        image_url["detail"] = part.detail
    return {"type": "image_url", "image_url": image_url}


def _file(part: File) -> Block:
    if part.url is not None:
        raise PromptError(
            "Chat Completions takes no file by URL. Download it and give its path or bytes, "
            "or ask an Anthropic model, which fetches it by itself."
        )
    loaded = part.load()
    name = part.filename or ("file.pdf" if loaded.media_type == "application/pdf" else "file.txt")
    return {"type": "file", "file": {"filename": name, "file_data": loaded.data_url()}}


def _tool_call(part: ToolCall) -> Block:
    arguments: Any = part.arguments
    if arguments.keys() == {"_raw"} and isinstance(arguments["_raw"], str):
        text = arguments["_raw"]  # what the model wrote did not parse; it gets its own words back
    else:
        text = msgspec.json.encode(arguments).decode()
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": text}}


_WRITERS: Mapping[type[Part], Callable[[Any], Block]] = {
    Text: lambda part: _text_block(part.text),
    Image: _image,
    File: _file,
    ProviderBlock: attrgetter("block"),
}
