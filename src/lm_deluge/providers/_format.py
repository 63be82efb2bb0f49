"""What a wire format is: the interface that every format implements and everything else uses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from lm_deluge._json import JsonReader
from lm_deluge.config import SamplingParams
from lm_deluge.models import Model
from lm_deluge.prompt import Part, ProviderBlock, ToolResult
from lm_deluge.providers._values import Delta, Reply
from lm_deluge.request import Request
from lm_deluge.tool import Tool

__all__ = ["ErrorWords", "Fold", "WireFormat", "is_blank"]


class Fold(Protocol):
    """Puts the events of a streamed answer together, into the object of the whole answer."""

    @property
    def has_begun(self) -> bool:
        """Whether an event of the answer has been seen."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the answer's last event has been seen."""
        ...

    def add(self, event: dict[str, Any]) -> list[Delta]:
        """Take an event in, and return what it added to the answer.

        Raises:
            ProtocolError: it does not fit the events before it, so that the answer would not be whole.
        """
        ...

    def end(self) -> None:
        """The server has said ``[DONE]``."""
        ...

    def answer(self) -> dict[str, Any]:
        """The object that the events amount to."""
        ...


class ErrorWords(msgspec.Struct, frozen=True, kw_only=True):
    """What the types and codes of a format's errors mean.

    Attributes:
        statuses: the HTTP status that an error type stands for, where an error comes with status 200.
        spent: types and codes of an account without money or quota, which waiting does not cure.
    """

    statuses: Mapping[str, int]
    spent: frozenset[str]


class WireFormat(ABC):
    """How requests are written and answers are read. It has no state, and there is one instance of each.

    The first group of methods makes a call, the second reads what comes back, and the third tells in which order a
    provider reads a prompt: that is the order of its cache. How much a cache takes (breakpoints, lifetimes, minimum,
    look-back, routing keys) depends on service and model: see ``Model.caching``.

    Attributes:
        name: as in ``Service.wire`` and in ``ProviderBlock.wire``.
        answer_fields: reads the fields of an answer that ``reply`` and ``error`` need, and skips the rest. It is for
            answers that would take too long to decode as a whole: see ``decode_object``.
        errors: what the words of its errors mean.
        joins_turns: whether messages of one side that follow each other are one, opened by the results of tools. Else
            each message is read as it is.
        reads_system_first: whether all system text is read before the messages, wherever it stands.
        images_change_cache: whether adding the first image anywhere changes how all messages are cached.
        tokens_per_message: tokens that each message has beside its blocks.
    """

    name: ClassVar[str]
    answer_fields: ClassVar[JsonReader[Any]]
    errors: ClassVar[ErrorWords]
    joins_turns: ClassVar[bool] = False
    reads_system_first: ClassVar[bool] = False
    images_change_cache: ClassVar[bool] = False
    tokens_per_message: ClassVar[int] = 0

    # The call

    @abstractmethod
    def url(self, model: Model) -> str:
        """Where requests go. Whole and streamed answers come from the same address."""

    @abstractmethod
    def headers(self, credential: str | None, extra: Mapping[str, str]) -> dict[str, str]:
        """The headers that only this format has, with the credential.

        Args:
            credential: the API key; None sends none.
            extra: the user's headers, names in lower case. They are added later, and win.
        """

    @abstractmethod
    def body(self, request: Request, *, stream: bool) -> dict[str, Any]:
        """The body, without routing key and ``extra_body``.

        Args:
            request: what is asked; its media are loaded.
            stream: ask for the answer in pieces.

        Raises:
            PromptError: the prompt holds something that the format has no place for.
            ConfigError: a breakpoint with an impossible lifetime, or too many of them.
        """

    @abstractmethod
    def dropped_parameters(self, model: Model, params: SamplingParams, *, has_schema: bool) -> tuple[str, ...]:
        """Names of the parameters that are set and not sent, because the model or its API does not take them.

        Args:
            model: which model is asked.
            params: the user's parameters.
            has_schema: whether the request has an ``output_schema``, which covers what ``json_mode`` asks for.
        """

    def can_prefill(self, request: Request) -> bool:
        """Whether the provider caches such a prompt on request without answering it. See ``Request.prefill``."""
        return False

    # What comes back

    @abstractmethod
    def reply(self, answer: dict[str, Any]) -> Reply:
        """The reply that a decoded answer holds.

        Raises:
            ProtocolError: it does not have the documented shape.
        """

    def error(self, answer: Mapping[str, Any]) -> object | None:
        """The error that an answer or an event with status 200 holds; None if it holds none.

        A gateway passes on the errors of the server behind it, so every known shape counts. OpenRouter puts some into
        the choice.
        """
        choices = answer.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        for error in (answer.get("error"), first.get("error") if isinstance(first, dict) else None):
            if error and isinstance(error, (dict, str)):
                return error
        return None

    @abstractmethod
    def fold(self) -> Fold:
        """A new fold: it makes of a stream the object that ``reply`` reads."""

    @abstractmethod
    def pause(self, headers: Mapping[str, str], *, now: float) -> float | None:
        """Seconds until a limit that headers show as spent refills, at most ``MAX_WAIT``; None while none is.

        Args:
            headers: of an answer, names in lower case.
            now: seconds since the Unix epoch.
        """

    # The order in which a prompt is read and cached

    def is_sent(self, part: Part) -> bool:
        """Whether a part is sent at all. A block that only one provider knows goes to no other format."""
        return not isinstance(part, ProviderBlock) or part.wire == self.name

    def opens_turn(self, part: Part) -> bool:
        """Whether a part comes first among those of its turn, wherever it was given."""
        return isinstance(part, ToolResult)

    @abstractmethod
    def tool_outline(self, tool: Tool) -> dict[str, Any]:
        """A tool about as it is sent, for estimates of its tokens."""


def is_blank(text: str) -> bool:
    """Whether a text has nothing in it that can be seen."""
    return not text or text.isspace()
