"""The OpenAI Chat Completions wire format: ``/v1/chat/completions``."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from lm_deluge.testing.answers import Finished
from lm_deluge.testing.bill import Served
from lm_deluge.testing.decoding import Rejection, ShapeProblem, decode
from lm_deluge.testing.exchange import Exchange
from lm_deluge.testing.openai_chat import errors, models, render, rules, shapes
from lm_deluge.testing.openai_chat.cache import Lookup, PromptCache
from lm_deluge.testing.openai_chat.prompt import pieces
from lm_deluge.testing.stats import Limits
from lm_deluge.testing.values import CacheOutcome, ParsedRequest

__all__ = ["ChatCompletionsEndpoint"]

_REQUESTS = 10_000
_TOKENS = 2_000_000
_TIERS = {"flex": "flex", "priority": "priority", "fast": "priority"}  # what others are processed as: the default


class ChatCompletionsEndpoint:
    """``POST /v1/chat/completions``.

    Args:
        time: seconds since the epoch, for ``created``.
        names: the model names that exist; None for any.
    """

    path = "/v1/chat/completions"
    generates = True

    def __init__(self, *, time: Callable[[], float], names: Collection[str] | None = None) -> None:
        self._time = time
        self._names = names
        self.cache = PromptCache()

    def clear(self) -> None:
        self.cache.clear()

    def credential(self, headers: Mapping[str, str]) -> str:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            message = "You didn't provide an API key. Provide it in an Authorization header using Bearer auth."
            raise Rejection(message, status=401, code="missing_api_key")
        return token.strip()

    def accept(self, headers: Mapping[str, str], body: bytes, *, credential: str, identity: str) -> "_Completion":
        if not headers.get("content-type", "").lower().startswith("application/json"):
            raise Rejection("Unsupported content type. This API method only accepts 'application/json' requests.")
        request = decode(body, _decoder)
        if isinstance(request, ShapeProblem):
            raise errors.rejection(request)
        if self._names is not None and request.model not in self._names:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            raise Rejection(message, status=404)
        urls = rules.check(request)
        return _Completion(request, urls, self.cache, body, credential, identity, int(self._time()))

    def download_failed(self, url: str, problem: str) -> Rejection:
        return Rejection(f"Error while downloading {url}: {problem}.", param="url", code="invalid_image_url")

    def error(self, rejection: Rejection, request_id: str) -> bytes:
        return errors.error_body(rejection)

    def error_event(self, rejection: Rejection, request_id: str) -> bytes:
        return b"data: %b\n\n" % errors.error_body(rejection)

    def headers(self, request_id: str, limits: Limits) -> list[tuple[bytes, bytes]]:
        left = max(0, _REQUESTS - limits.requests_used)
        return [
            (b"x-request-id", request_id.encode()),
            (b"openai-version", b"2020-10-01"),
            (b"openai-processing-ms", b"1"),
            (b"x-ratelimit-limit-requests", b"%d" % _REQUESTS),
            (b"x-ratelimit-remaining-requests", b"%d" % left),
            (b"x-ratelimit-reset-requests", b"6ms"),
            (b"x-ratelimit-limit-tokens", b"%d" % _TOKENS),
            (b"x-ratelimit-remaining-tokens", b"%d" % (left * _TOKENS // _REQUESTS)),
            (b"x-ratelimit-reset-tokens", b"6m0s" if not left else b"20ms"),
        ]


_decoder = msgspec.json.Decoder(shapes.ChatRequest)


class _Completion(Exchange):
    """One accepted request."""

    def __init__(
        self,
        shape: shapes.ChatRequest,
        urls: tuple[str, ...],
        cache: PromptCache,
        body: bytes,
        credential: str,
        identity: str,
        created: int,
    ) -> None:
        super().__init__(_parsed(shape, body), urls)
        self._shape = shape
        self._cache = cache
        self._credential = credential
        self._identity = identity
        self._created = created
        self._lookup = Lookup(CacheOutcome())

    @property
    def choices(self) -> int:
        return self._shape.n or 1

    @property
    def thinks(self) -> bool:
        return models.is_reasoning(self._shape.model) and self._shape.reasoning_effort != "none"

    @property
    def served(self) -> Served:
        return (("service_tier", self._service_tier),)

    @property
    def _service_tier(self) -> str:
        return _TIERS.get(self._shape.service_tier or "auto", "default")

    def digest(self) -> bytes:
        content = b"".join(piece.data for piece in pieces(self._shape))
        return hashlib.blake2b(self._shape.model.encode() + content, digest_size=16).digest()

    def look_up(self, now: float) -> CacheOutcome:
        self._lookup = self._cache.look_up(self._shape, credential=self._credential, now=now)
        return self._lookup.outcome

    def publish(self) -> None:
        self._cache.publish(self._lookup)

    def body(self, answers: Sequence[Finished]) -> bytes:
        return msgspec.json.encode(self._completion(answers))

    def events(self, answers: Sequence[Finished]) -> list[bytes]:
        options = self._shape.stream_options
        include_usage = options is not None and options.include_usage
        obfuscate = options is None or options.include_obfuscation
        return render.completion_events(self._completion(answers), include_usage=include_usage, obfuscate=obfuscate)

    def _completion(self, answers: Sequence[Finished]) -> dict[str, Any]:
        return render.completion(
            answers,
            identity=self._identity,
            created=self._created,
            model=self._shape.model,
            outcome=self._lookup.outcome,
            service_tier=self._service_tier,
            top_logprobs=(self._shape.top_logprobs or 0) if self._shape.logprobs else None,
        )


def _parsed(shape: shapes.ChatRequest, body: bytes) -> ParsedRequest:
    tools = shape.tools or []
    stop = (shape.stop,) if isinstance(shape.stop, str) else tuple(shape.stop or ())
    wanted = shape.response_format
    schema: dict[str, Any] | None = None
    if isinstance(wanted, shapes.JsonSchemaFormat):
        schema = wanted.json_schema.schema
    elif isinstance(wanted, shapes.JsonObjectFormat):
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    last = next((each for each in reversed(shape.messages) if isinstance(each, shapes.User)), None)
    system = [each for each in shape.messages if isinstance(each, shapes.System | shapes.Developer)]
    return ParsedRequest(
        provider="openai",
        path=ChatCompletionsEndpoint.path,
        model=shape.model,
        text=_text(last.content) if last is not None else "",
        system="\n".join(_text(each.content) for each in system),
        stream=bool(shape.stream),
        max_tokens=shape.max_completion_tokens or shape.max_tokens,
        stop=stop,
        tools=tuple(rules.tool_name(tool) for tool in tools),
        forced_tool=_forced(shape.tool_choice),
        schema=schema,
        body=body,
    )


def _forced(choice: Any) -> str | None:
    if choice == "required":
        return "*"
    if isinstance(choice, shapes.AllowedToolChoice):
        return "*" if choice.allowed_tools.mode == "required" else None
    return rules.named_choice(choice)


def _text(content: str | Sequence[Any]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, shapes.Text))
