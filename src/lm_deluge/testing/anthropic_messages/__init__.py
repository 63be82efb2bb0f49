"""The Anthropic Messages wire format: ``/v1/messages`` and ``/v1/messages/count_tokens``."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from lm_deluge.testing.answers import Finished
from lm_deluge.testing.anthropic_messages import errors, media, models, render, rules, shapes
from lm_deluge.testing.anthropic_messages.cache import Lookup, PromptCache
from lm_deluge.testing.anthropic_messages.diagnostics import Fingerprints, fingerprint
from lm_deluge.testing.anthropic_messages.prompt import Position, content_digest, positions
from lm_deluge.testing.anthropic_messages.signatures import sign
from lm_deluge.testing.bill import Served
from lm_deluge.testing.decoding import Rejection, ShapeProblem, decode
from lm_deluge.testing.exchange import Exchange
from lm_deluge.testing.stats import Limits
from lm_deluge.testing.values import CacheOutcome, ParsedRequest

__all__ = ["CountTokensEndpoint", "MessagesEndpoint"]

_VERSIONS = ("2023-01-01", "2023-06-01", rules.NO_SAMPLING_VERSION)
_LARGEST_BODY = 32 * 1024 * 1024
_LIMITS = {b"requests": 4_000, b"tokens": 2_400_000, b"input-tokens": 2_000_000, b"output-tokens": 400_000}


class _Endpoint:
    """What both paths share."""

    def __init__(self, *, names: Collection[str] | None = None) -> None:
        self._names = names
        self.cache = PromptCache()

    def clear(self) -> None:
        self.cache.clear()

    def credential(self, headers: Mapping[str, str]) -> str:
        key = headers.get("x-api-key", "").strip()
        if not key:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            key = token.strip() if scheme.lower() == "bearer" else ""
        if not key:
            raise Rejection("x-api-key header is required", status=401)
        return key

    def download_failed(self, url: str, problem: str) -> Rejection:
        return media.download_failed(url, problem)

    def error(self, rejection: Rejection, request_id: str) -> bytes:
        return errors.error_body(rejection, request_id)

    def error_event(self, rejection: Rejection, request_id: str) -> bytes:
        return b"event: error\ndata: %b\n\n" % errors.error_body(rejection, request_id)

    def headers(self, request_id: str, limits: Limits) -> list[tuple[bytes, bytes]]:
        headers = [(b"request-id", request_id.encode())]
        for kind, limit in _LIMITS.items():
            used = limits.requests_used * (1 if kind == b"requests" else 1_000)
            left = max(0, limit - used)
            prefix = b"anthropic-ratelimit-" + kind
            headers.append((prefix + b"-limit", b"%d" % limit))
            headers.append((prefix + b"-remaining", b"%d" % left))
            headers.append((prefix + b"-reset", limits.reset_rfc3339))
        return headers

    def _checked(self, headers: Mapping[str, str], body: bytes, decoder: "msgspec.json.Decoder[Any]") -> "_Checked":
        version = headers.get("anthropic-version")
        if not version:
            raise Rejection("anthropic-version: header is required")
        if version not in _VERSIONS:
            raise Rejection(f'anthropic-version: "{version}" is not a valid version')
        if len(body) > _LARGEST_BODY:
            raise Rejection("Request exceeds the maximum size", status=413)
        if not headers.get("content-type", "").lower().startswith("application/json"):
            raise Rejection("content-type: must be application/json")
        request = decode(body, decoder)
        if isinstance(request, ShapeProblem):
            raise errors.rejection(request)
        if self._names is not None and request.model not in self._names:
            raise Rejection(f"model: {request.model}", status=404)
        tools = [_tool(index, raw) for index, raw in enumerate(request.tools)]
        sequence = positions(request, tools)
        urls = rules.check_prompt(request, tools, sequence, version=version)
        betas = frozenset(name.strip() for name in headers.get("anthropic-beta", "").split(",")) - {""}
        return _Checked(request, tools, sequence, urls, version, betas)


class MessagesEndpoint(_Endpoint):
    """``POST /v1/messages``."""

    path = "/v1/messages"
    generates = True

    def __init__(self, *, names: Collection[str] | None = None) -> None:
        super().__init__(names=names)
        self._fingerprints = Fingerprints()

    def clear(self) -> None:
        super().clear()
        self._fingerprints.clear()

    def accept(self, headers: Mapping[str, str], body: bytes, *, credential: str, identity: str) -> "_Generation":
        checked = self._checked(headers, body, _messages)
        rules.check_generation(checked.request, version=checked.version)
        parsed = _parsed(self.path, checked, body)
        return _Generation(checked, parsed, self.cache, self._fingerprints, credential, identity)


class CountTokensEndpoint(_Endpoint):
    """``POST /v1/messages/count_tokens``."""

    path = "/v1/messages/count_tokens"
    generates = False

    def accept(self, headers: Mapping[str, str], body: bytes, *, credential: str, identity: str) -> "_Count":
        checked = self._checked(headers, body, _count)
        return _Count(checked, _parsed(self.path, checked, body))


_messages = msgspec.json.Decoder(shapes.MessagesRequest)
_count = msgspec.json.Decoder(shapes.CountTokensRequest)


class _Checked(msgspec.Struct, frozen=True):
    """A request that passed the rules. ``request`` has the type its decoder gave it."""

    request: Any
    tools: list[shapes.Tool | shapes.ServerTool]
    sequence: list[Position]
    urls: tuple[str, ...]
    version: str
    betas: frozenset[str]


class _Count(Exchange):
    """Token counting: an answer that is known at once."""

    def __init__(self, checked: _Checked, request: ParsedRequest) -> None:
        super().__init__(request, checked.urls)
        self._tokens = sum(position.tokens for position in checked.sequence)

    def body(self, answers: Sequence[Finished]) -> bytes:
        return msgspec.json.encode({"input_tokens": self._tokens})


class _Generation(Exchange):
    """One accepted generation."""

    def __init__(
        self,
        checked: _Checked,
        request: ParsedRequest,
        cache: PromptCache,
        fingerprints: Fingerprints,
        credential: str,
        identity: str,
    ) -> None:
        super().__init__(request, checked.urls)
        self._checked = checked
        self._cache = cache
        self._fingerprints = fingerprints
        self._credential = credential
        self._identity = identity
        self._lookup = Lookup(CacheOutcome())
        self._diagnostics: dict[str, Any] | None = None

    @property
    def choices(self) -> int:
        return 1 if self._checked.request.max_tokens else 0

    @property
    def thinks(self) -> bool:
        config = self._checked.request.thinking
        if config is None:
            forced = self.request.forced_tool is not None
            return models.thinks_by_default(self.request.model) and not forced
        return isinstance(config, shapes.ThinkingEnabled | shapes.ThinkingAdaptive)

    @property
    def served(self) -> Served:
        return (("service_tier", render.SERVICE_TIER), ("speed", self._checked.request.speed or "standard"))

    def digest(self) -> bytes:
        prefix = content_digest(self._checked.sequence)
        return hashlib.blake2b(self.request.model.encode() + prefix, digest_size=16).digest()

    def look_up(self, now: float) -> CacheOutcome:
        checked = self._checked
        self._lookup = self._cache.look_up(checked.request, checked.sequence, credential=self._credential, now=now)
        return self._lookup.outcome

    def publish(self) -> None:
        self._cache.publish(self._lookup)
        asked = self._checked.request.diagnostics
        if asked is not None:
            found = fingerprint(self._checked.request, self._checked.sequence, betas=self._checked.betas)
            kept, credential = self._fingerprints, self._credential
            self._diagnostics = kept.diagnose(found, credential=credential, previous=asked.previous_message_id)
            kept.keep(found, credential=credential, message_id=render.message_id(self._identity))

    def body(self, answers: Sequence[Finished]) -> bytes:
        return msgspec.json.encode(self._message(answers))

    def events(self, answers: Sequence[Finished]) -> list[bytes]:
        return render.message_events(self._message(answers))

    def _message(self, answers: Sequence[Finished]) -> dict[str, Any]:
        finished = answers[0] if answers else None
        omit = self._omits_thinking()
        signature = None
        if finished is not None and self.thinks and finished.answer.thinking:
            shown = "" if omit else finished.answer.thinking
            signature = sign(shown, content_digest(self._checked.sequence))
        return render.message(
            finished,
            identity=self._identity,
            model=self.request.model,
            outcome=self._lookup.outcome,
            diagnostics=self._diagnostics,
            signature=signature,
            omit=omit,
        )

    def _omits_thinking(self) -> bool:
        display = getattr(self._checked.request.thinking, "display", None)
        return models.omits_thinking(self.request.model) if display is None else bool(display == "omitted")


def _tool(index: int, raw: bytes) -> shapes.Tool | shapes.ServerTool:
    tool = shapes.decode_tool(raw)
    if isinstance(tool, ShapeProblem):
        raise errors.rejection(msgspec.structs.replace(tool, path=("tools", index, "custom", *tool.path)))
    return tool


def _parsed(path: str, checked: _Checked, body: bytes) -> ParsedRequest:
    request = checked.request
    choice = request.tool_choice
    forced = None
    if isinstance(choice, shapes.ToolChoiceAny):
        forced = "*"
    elif isinstance(choice, shapes.ToolChoiceTool):
        forced = choice.name
    output = request.output_config
    return ParsedRequest(
        provider="anthropic",
        path=path,
        model=request.model,
        text=_text(position for position in _last_user_turn(checked.sequence)),
        system=_text(position for position in checked.sequence if position.level == "system"),
        stream=getattr(request, "stream", False),
        max_tokens=getattr(request, "max_tokens", None),
        stop=tuple(getattr(request, "stop_sequences", ())),
        tools=tuple(tool.name for tool in checked.tools if isinstance(tool, shapes.Tool)),
        forced_tool=forced,
        schema=output.format.schema if output is not None and output.format is not None else None,
        body=body,
    )


def _last_user_turn(sequence: list[Position]) -> list[Position]:
    last = max((position.message for position in sequence if position.role == "user"), default=-1)
    return [position for position in sequence if position.message == last and position.role == "user"]


def _text(sequence: Any) -> str:
    return "\n".join(position.block.text for position in sequence if isinstance(position.block, shapes.Text))
