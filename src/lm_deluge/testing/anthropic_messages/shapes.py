"""The shape of an Anthropic Messages request: every field the API takes, and no other.

Unions are tagged by ``type`` (blocks) and ``role`` (messages), as the API's own are. What depends on more than one
field is in ``rules``.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from lm_deluge.testing.decoding import ShapeProblem, decode

NonEmpty: TypeAlias = Annotated[str, Meta(min_length=1)]


class CacheControl(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ephemeral"):
    ttl: Literal["5m", "1h"] = "5m"


class Base64Image(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class Base64Pdf(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="base64"):
    media_type: Literal["application/pdf"]
    data: str


class Url(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="url"):
    url: str


class File(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="file"):
    file_id: NonEmpty


class PlainText(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    media_type: Literal["text/plain"]
    data: str


class Citations(Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool = False


class Text(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    text: str
    cache_control: CacheControl | None = None
    citations: list[dict[str, Any]] | None = None


class Image(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="image"):
    source: Base64Image | Url | File
    cache_control: CacheControl | None = None
    transformations: dict[str, Any] | None = None


class ContentSource(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="content"):
    content: str | list[Text | Image]


class Document(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="document"):
    source: Base64Pdf | PlainText | Url | File | ContentSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None
    cache_control: CacheControl | None = None


class SearchResult(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="search_result"):
    source: str
    title: str
    content: list[Text]
    citations: Citations | None = None
    cache_control: CacheControl | None = None


class ToolReference(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool_reference"):
    tool_name: str
    cache_control: CacheControl | None = None


class Thinking(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class RedactedThinking(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="redacted_thinking"):
    data: str


class ToolUse(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool_use"):
    id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ToolResult(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool_result"):
    tool_use_id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$")]
    content: str | list[Text | Image | SearchResult | Document | ToolReference] = ""
    is_error: bool = False
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ServerToolUse(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="server_tool_use"):
    id: str
    name: str
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class _ServerToolResult(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="_"):
    tool_use_id: str
    content: Any
    caller: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class WebSearchResult(_ServerToolResult, frozen=True, tag="web_search_tool_result"): ...


class WebFetchResult(_ServerToolResult, frozen=True, tag="web_fetch_tool_result"): ...


class CodeExecutionResult(_ServerToolResult, frozen=True, tag="code_execution_tool_result"): ...


class BashResult(_ServerToolResult, frozen=True, tag="bash_code_execution_tool_result"): ...


class TextEditorResult(_ServerToolResult, frozen=True, tag="text_editor_code_execution_tool_result"): ...


class ToolSearchResult(_ServerToolResult, frozen=True, tag="tool_search_tool_result"): ...


class ContainerUpload(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="container_upload"):
    file_id: str
    cache_control: CacheControl | None = None


OtherBlock: TypeAlias = (
    ServerToolUse
    | WebSearchResult
    | WebFetchResult
    | CodeExecutionResult
    | BashResult
    | TextEditorResult
    | ToolSearchResult
    | ContainerUpload
)
Block: TypeAlias = (
    Text | Image | Document | SearchResult | ToolUse | ToolResult | Thinking | RedactedThinking | OtherBlock
)


class UserMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user"):
    content: str | list[Block]


class AssistantMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    content: str | list[Block]


class SystemMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="system"):
    content: str | list[Text]


Message: TypeAlias = UserMessage | AssistantMessage | SystemMessage


class Tool(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tool that the client runs."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str = ""
    strict: bool = False
    defer_loading: bool = False
    eager_input_streaming: bool | None = None
    input_examples: list[dict[str, Any]] = []
    allowed_callers: list[str] = []
    cache_control: CacheControl | None = None


class ServerTool(Struct, frozen=True):
    """A tool of Anthropic's own, such as ``web_search_20250305``. Its options are not checked."""

    type: str
    name: str = ""
    defer_loading: bool = False
    cache_control: CacheControl | None = None


class _ToolType(Struct, frozen=True):
    type: str | None = None


_tool_type = msgspec.json.Decoder(_ToolType)
_tool = msgspec.json.Decoder(Tool)
_server_tool = msgspec.json.Decoder(ServerTool)


def decode_tool(raw: bytes) -> Tool | ServerTool | ShapeProblem:
    """One element of ``tools``. It is no tagged union: a missing ``type`` means a tool of the client's."""
    kind = decode(raw, _tool_type)
    if isinstance(kind, ShapeProblem):
        return kind
    if kind.type is None or kind.type == "custom":
        return decode(raw, _tool)
    return decode(raw, _server_tool)


class ToolChoiceAuto(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool = False


class ToolChoiceAny(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool = False


class ToolChoiceTool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool = False


class ToolChoiceNone(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="none"): ...


ToolChoice: TypeAlias = ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone
Display: TypeAlias = Literal["summarized", "omitted"] | None


class ThinkingEnabled(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="enabled"):
    budget_tokens: Annotated[int, Meta(ge=1024)]
    display: Display = None


class ThinkingAdaptive(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="adaptive"):
    display: Display = None


class ThinkingDisabled(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="disabled"): ...


class ThinkingBetweenTools(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="between_tools"): ...


ThinkingConfig: TypeAlias = ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | ThinkingBetweenTools


class JsonFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    schema: dict[str, Any]


class OutputConfig(Struct, frozen=True, forbid_unknown_fields=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Metadata(Struct, frozen=True, forbid_unknown_fields=True):
    user_id: Annotated[str, Meta(max_length=256)] | None = None


class Diagnostics(Struct, frozen=True, forbid_unknown_fields=True):
    previous_message_id: str | None = None


class CountTokensRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a request that makes up its prompt: what ``/v1/messages/count_tokens`` takes."""

    model: NonEmpty
    messages: Annotated[list[Message], Meta(max_length=100_000)]
    system: str | list[Text] = ""
    tools: list[msgspec.Raw] = []
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    speed: Literal["standard", "fast"] | None = None
    cache_control: CacheControl | None = None


class MessagesRequest(CountTokensRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole request to ``/v1/messages``."""

    max_tokens: Annotated[int, Meta(ge=0)]
    stream: bool = False
    stop_sequences: list[str] = []
    temperature: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    top_p: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] = "auto"
    container: Any = None
    diagnostics: Diagnostics | None = None
    inference_geo: str | None = None
    user_profile_id: str | None = None
