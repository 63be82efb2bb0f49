"""The shape of an OpenAI Chat Completions request: every field the API takes, and no other.

Messages are tagged by ``role``, content parts by ``type``. What depends on more than one field is in ``rules``.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Name: TypeAlias = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]


class Breakpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """An explicit cache breakpoint. Chat Completions takes ``30m`` alone; ``12h`` belongs to Responses."""

    mode: Literal["explicit"]
    ttl: Literal["30m"] = "30m"


class CacheOptions(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["implicit", "explicit"] = "implicit"
    ttl: Literal["30m"] = "30m"


class Text(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class Refusal(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="refusal"):
    refusal: str


class ImageReference(Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class ImageUrl(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="image_url"):
    image_url: ImageReference
    prompt_cache_breakpoint: Breakpoint | None = None


class Audio(Struct, frozen=True, forbid_unknown_fields=True):
    data: str
    format: Literal["wav", "mp3"]


class InputAudio(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="input_audio"):
    input_audio: Audio
    prompt_cache_breakpoint: Breakpoint | None = None


class FileReference(Struct, frozen=True, forbid_unknown_fields=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class File(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="file"):
    file: FileReference
    prompt_cache_breakpoint: Breakpoint | None = None


Part: TypeAlias = Text | ImageUrl | InputAudio | File | Refusal


class FunctionCall(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: str


class CustomCall(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    input: str


class ToolCall(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function"):
    id: str
    function: FunctionCall


class CustomToolCall(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="custom"):
    id: str
    custom: CustomCall


class AudioReference(Struct, frozen=True, forbid_unknown_fields=True):
    id: str


class System(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="system"):
    content: str | list[Text]
    name: str | None = None


class Developer(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="developer"):
    content: str | list[Text]
    name: str | None = None


class User(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user"):
    content: str | list[Text | ImageUrl | InputAudio | File]
    name: str | None = None


class Assistant(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    content: str | list[Text | Refusal] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall | CustomToolCall], Meta(min_length=1)] | None = None
    function_call: FunctionCall | None = None
    audio: AudioReference | None = None
    annotations: list[dict[str, Any]] | None = None


class ToolMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="tool"):
    content: str | list[Text]
    tool_call_id: str


class FunctionMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="function"):
    name: str
    content: str | None


Message: TypeAlias = System | Developer | User | Assistant | ToolMessage | FunctionMessage


class Function(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: Name
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool | None = None


class FunctionTool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function"):
    function: Function


class Custom(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: Name
    description: str = ""
    format: dict[str, Any] = {}


class CustomTool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="custom"):
    custom: Custom


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class FunctionToolChoice(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function"):
    function: Named


class CustomToolChoice(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="custom"):
    custom: Named


class AllowedTools(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class AllowedToolChoice(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedTools


ToolChoice: TypeAlias = Literal["none", "auto", "required"] | FunctionToolChoice | CustomToolChoice | AllowedToolChoice


class TextFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"): ...


class JsonObjectFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_object"): ...


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    description: str | None = None
    schema: dict[str, Any] = {}
    strict: bool | None = None


class JsonSchemaFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: bool = True


class ChatRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole request to ``/v1/chat/completions``."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    audio: dict[str, Any] | None = None
    frequency_penalty: Penalty | None = None
    function_call: Literal["none", "auto"] | Named | UnsetType = UNSET
    functions: Annotated[list[Function], Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None
    modalities: list[Literal["text", "audio"]] | None = None
    moderation: dict[str, Any] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | UnsetType = UNSET
    prediction: dict[str, Any] | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | UnsetType = UNSET
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | UnsetType = UNSET
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    stop: str | Annotated[list[str], Meta(min_length=1, max_length=4)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    tool_choice: ToolChoice | UnsetType = UNSET
    tools: Annotated[list[FunctionTool | CustomTool], Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    user: str | UnsetType = UNSET
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: dict[str, Any] | UnsetType = UNSET
