"""What the OpenAI API refuses although the shape is right: rules over more than one field."""

from typing import Any

from msgspec import UNSET

from lm_deluge.testing.decoding import Rejection
from lm_deluge.testing.media import IMAGE_TYPES, decode_base64, sniff, url_problem
from lm_deluge.testing.openai_chat import models, shapes

__all__ = ["check", "named_choice", "tool_name"]

_NEUTRAL = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
_NAMED = ("properties", "$defs", "definitions")  # keywords under which schemas have names
_NOT_AN_OBJECT = "(), schema must be a JSON Schema of 'type: \"object\"'"


def check(request: shapes.ChatRequest) -> tuple[str, ...]:
    """Check a request of the right shape.

    Returns:
        the URLs that the API would download.

    Raises:
        Rejection: the API would refuse the request.
    """
    _check_model(request)
    _check_logprobs(request)
    _check_tool_turns(request)
    _check_tools(request)
    _check_format(request)
    _check_caching(request)
    if request.stream_options is not None and not request.stream:
        raise Rejection(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    return _check_parts(request)


def _check_model(request: shapes.ChatRequest) -> None:
    reasoning = models.is_reasoning(request.model)
    if request.max_tokens is not None:
        if reasoning:
            raise _unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
        if request.max_completion_tokens is not None:
            message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise Rejection(message, param="max_tokens", code="invalid_parameter_combination")
    if not models.takes_sampling(request.model, request.reasoning_effort):
        for name, neutral in _NEUTRAL.items():
            value = getattr(request, name)
            if value is not None and value != neutral:
                raise Rejection(
                    f"Unsupported value: '{name}' does not support {value:g} with this model. "
                    f"Only the default ({neutral}) value is supported.",
                    param=name,
                    code="unsupported_value",
                )
    for name in ("reasoning_effort", "verbosity"):
        if getattr(request, name) is not None and models.is_classic(request.model):
            raise _unsupported(name)


def _check_logprobs(request: shapes.ChatRequest) -> None:
    if request.top_logprobs is not None and not request.logprobs:
        raise Rejection(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", param="top_logprobs"
        )


def _check_tool_turns(request: shapes.ChatRequest) -> None:
    """Tool messages answer the calls of the assistant message before them: all of them, each once."""
    pending: dict[str, int] = {}
    answered: set[str] = set()
    for index, message in enumerate(request.messages):
        if isinstance(message, shapes.ToolMessage):
            identity = message.tool_call_id
            if identity not in pending:
                reason = (
                    "must be a response to a preceding message with 'tool_calls'."
                    if not pending and not answered
                    else f"has a 'tool_call_id' that was not found in the preceding 'tool_calls': {identity}."
                )
                raise Rejection(
                    f"Invalid parameter: messages with role 'tool' {reason}", param=f"messages.[{index}].role"
                )
            del pending[identity]
            answered.add(identity)
            continue
        _check_answered(pending)
        pending, answered = {}, set()
        if isinstance(message, shapes.Assistant):
            pending = {call.id: index for call in message.tool_calls or ()}
            if message.content is None and not (
                message.tool_calls or message.function_call or message.refusal or message.audio
            ):
                raise Rejection(
                    "Invalid value for 'content': expected a string, got null.", param=f"messages.[{index}].content"
                )
    _check_answered(pending)


def _check_answered(pending: dict[str, int]) -> None:
    if pending:
        raise Rejection(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(pending)}",
            param=f"messages.[{max(pending.values()) + 1}].role",
        )


def tool_name(tool: shapes.FunctionTool | shapes.CustomTool) -> str:
    return tool.function.name if isinstance(tool, shapes.FunctionTool) else tool.custom.name


def _check_tools(request: shapes.ChatRequest) -> None:
    tools = request.tools or []
    names = [tool_name(tool) for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Rejection(f"Duplicate tool name: '{name}'.", param=f"tools[{index}]", code="invalid_value")
    for index, tool in enumerate(tools):
        if isinstance(tool, shapes.FunctionTool):
            problem = _parameters_problem(tool.function)
            if problem is not None:
                param = f"tools[{index}].function.parameters"
                raise _bad_schema("function", tool.function.name, problem, param, "invalid_function_parameters")
    if not tools:
        for parameter in ("tool_choice", "parallel_tool_calls"):
            if getattr(request, parameter) is not UNSET and getattr(request, parameter) != "none":
                raise Rejection(
                    f"Invalid value for '{parameter}': '{parameter}' is only allowed when 'tools' are specified.",
                    param=parameter,
                )
    wanted = named_choice(request.tool_choice)
    if wanted is not None and wanted not in names:
        raise Rejection(f"Tool choice '{wanted}' not found in 'tools' parameter.", param="tool_choice")


def _parameters_problem(function: shapes.Function) -> str | None:
    if function.parameters and function.parameters.get("type") != "object":
        return _NOT_AN_OBJECT
    return _strict_problem(function.parameters, ()) if function.strict else None


def named_choice(choice: Any) -> str | None:
    if isinstance(choice, shapes.FunctionToolChoice):
        return choice.function.name
    return choice.custom.name if isinstance(choice, shapes.CustomToolChoice) else None


def _check_format(request: shapes.ChatRequest) -> None:
    wanted = request.response_format
    if isinstance(wanted, shapes.JsonObjectFormat) and "json" not in _all_text(request).lower():
        raise Rejection(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )
    if isinstance(wanted, shapes.JsonSchemaFormat) and wanted.json_schema.strict:
        schema = wanted.json_schema.schema
        problem = _strict_problem(schema, ()) if schema.get("type") == "object" else _NOT_AN_OBJECT
        if problem is not None:
            raise _bad_schema("response_format", wanted.json_schema.name, problem, "response_format", None)


def _bad_schema(what: str, name: str, problem: str, param: str, code: str | None) -> Rejection:
    return Rejection(f"Invalid schema for {what} '{name}': In context={problem}.", param=param, code=code)


def _strict_problem(schema: Any, context: tuple[str, ...]) -> str | None:
    """Strict schemas close every object and require every property."""
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            return f"{context}, 'additionalProperties' is required to be supplied and to be false"
        missing = [name for name in schema.get("properties") or {} if name not in (schema.get("required") or ())]
        if missing:
            return (
                f"{context}, 'required' is required to be supplied and to be an array including every key in "
                f"properties. Missing '{missing[0]}'"
            )
    children: list[tuple[tuple[str, ...], Any]] = [
        *((("properties", name), each) for kind in _NAMED for name, each in (schema.get(kind) or {}).items()),
        (("items",), schema.get("items")),
        *((("anyOf", str(index)), each) for index, each in enumerate(schema.get("anyOf") or ())),
    ]
    problems = (_strict_problem(child, context + step) for step, child in children)
    return next((problem for problem in problems if problem is not None), None)


def _check_caching(request: shapes.ChatRequest) -> None:
    if models.has_explicit_caching(request.model):
        if request.prompt_cache_retention == "in_memory":
            message = "Unsupported value: 'prompt_cache_retention' does not support 'in_memory' with this model."
            raise Rejection(message, param="prompt_cache_retention", code="unsupported_value")
        return
    if not (models.is_classic(request.model) or models.is_reasoning(request.model)):
        return
    if request.prompt_cache_options is not UNSET:
        raise _unsupported("prompt_cache_options")
    if any(getattr(part, "prompt_cache_breakpoint", None) is not None for _, _, part in _parts(request)):
        raise _unsupported("prompt_cache_breakpoint")


def _unsupported(name: str, instead: str = "") -> Rejection:
    message = f"Unsupported parameter: '{name}' is not supported with this model.{instead}"
    return Rejection(message, param=name, code="unsupported_parameter")


def _parts(request: shapes.ChatRequest) -> list[tuple[int, int, Any]]:
    return [
        (number, index, part)
        for number, message in enumerate(request.messages)
        if isinstance(message.content, list)
        for index, part in enumerate(message.content)
    ]


def _all_text(request: shapes.ChatRequest) -> str:
    plain = [message.content for message in request.messages if isinstance(message.content, str)]
    return " ".join([*plain, *(part.text for _, _, part in _parts(request) if isinstance(part, shapes.Text))])


def _check_parts(request: shapes.ChatRequest) -> tuple[str, ...]:
    urls = []
    for number, turn in enumerate(request.messages):
        if turn.content == []:
            message = f"Invalid 'messages[{number}].content': empty array. Expected an array with minimum length 1."
            raise Rejection(message, param=f"messages[{number}].content", code="empty_array")
    for number, index, part in _parts(request):
        place = f"messages[{number}].content[{index}]"
        if isinstance(part, shapes.ImageUrl):
            url = part.image_url.url
            if url.startswith("data:"):
                _check_image(url, f"{place}.image_url.url")
            elif (problem := url_problem(url)) is not None:
                message = f"Failed to download image from {url}: {problem}."
                raise Rejection(message, param=f"{place}.image_url.url", code="invalid_image_url")
            else:
                urls.append(url)
        elif isinstance(part, shapes.File):
            _check_file(part.file, f"{place}.file")
        elif isinstance(part, shapes.InputAudio) and decode_base64(part.input_audio.data) is None:
            raise Rejection("Invalid base64 audio data.", param=f"{place}.input_audio.data", code="invalid_value")
    return tuple(urls)


def _data_url(url: str) -> tuple[str, bytes | None]:
    head, _, data = url.removeprefix("data:").partition(",")
    return head.removesuffix(";base64").lower(), decode_base64(data) if head.endswith(";base64") else None


def _check_image(url: str, param: str) -> None:
    declared, data = _data_url(url)
    if data is None:
        message = "Invalid base64 image_url. Expected a URL of the form 'data:<media type>;base64,<data>'."
        raise Rejection(message, param=param, code="invalid_base64")
    actual = sniff(data)
    if declared not in IMAGE_TYPES or actual not in IMAGE_TYPES:
        raise Rejection(
            "You uploaded an unsupported image. Please make sure your image has one of the following formats: "
            "['png', 'jpeg', 'gif', 'webp'].",
            param=param,
            code="invalid_image_format",
        )
    if declared != actual:
        raise Rejection(
            f"The image is declared as {declared} but its bytes are {actual}.", param=param, code="invalid_image_format"
        )


def _check_file(file: Any, param: str) -> None:
    if (file.file_id is None) == (file.file_data is None):
        raise Rejection("Provide exactly one of 'file_id' and 'file_data'.", param=param, code="invalid_value")
    if file.file_data is None:
        return
    if not file.filename:
        message = f"Missing required parameter: '{param}.filename'."
        raise Rejection(message, param=f"{param}.filename", code="missing_required_parameter")
    declared, data = _data_url(file.file_data)
    if not file.file_data.startswith("data:") or data is None:
        message = "Invalid file data. Expected a URL of the form 'data:<media type>;base64,<data>'."
        raise Rejection(message, param=f"{param}.file_data", code="invalid_value")
    if declared == "application/pdf" and sniff(data) != "application/pdf":
        raise Rejection("The file is not a valid PDF.", param=f"{param}.file_data", code="invalid_value")
