"""One prompt of a run, from the moment it is read until its response is handed over."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from lm_deluge.canonical import sampled
from lm_deluge.prompt import Conversation
from lm_deluge.providers import Reply
from lm_deluge.response import APIResponse
from lm_deluge.wire import HttpResponse

__all__ = ["Arrived", "Item", "error_response"]


class Arrived(Protocol):
    """An answer that has come, as those see it who wait for it.

    Attributes:
        is_settled: whether it was read, and handed to the cache.
        response: what was made of it; None until then, and if it is a failure.
    """

    @property
    def is_settled(self) -> bool: ...

    @property
    def response(self) -> APIResponse | None: ...

    def when_stored(self, then: Callable[[], None]) -> None:
        """Have ``then`` called once it is stored, or at once if it is not to be. In any thread."""
        ...


class Item(msgspec.Struct, eq=False):
    """One answer that is wanted. Its responses are made here: a hit, an answer or an error.

    Attributes:
        id: the response's ``id``.
        sample: which of several independent answers to the prompt.
        prompt: loaded.
        digest: the prompt's, and the sample's.
        has_media: whether the prompt holds images or files.
        looked_up: when the cache was last asked for it, on the monotonic clock.
        sent: when its request was sent, on the same clock.
        waited: whether it has waited for another to write its prefix.
        arrival: its answer, once that has come.
        on_answer: called once it has a response that was handed to the cache. In any thread.
        is_sent: whether its request is in flight.
        admitted: whether its answer was good enough to be served again.
    """

    id: int
    prompt: Conversation
    looked_up: float
    sample: int = 0
    digest: bytes = b""
    has_media: bool = False
    sent: float = 0.0
    waited: bool = False
    arrival: Arrived | None = None
    on_answer: Callable[[], None] | None = None
    is_sent: bool = False
    admitted: bool = False

    def __post_init__(self) -> None:
        self.digest = sampled(self.prompt.digest, self.sample)
        self.has_media = self.prompt.has_media
        self.sent = self.looked_up

    def hit(self, stored: APIResponse, *, entry: bytes | None = None) -> APIResponse:
        """A stored response as the answer to this item: free, and equal to the original in all else."""
        return msgspec.structs.replace(
            stored,
            id=self.id,
            local_cache_hit=True,
            cost=0.0,
            cost_avoided=stored.cost_avoided or stored.cost or 0.0,
            entry=stored.entry if entry is None else entry.hex(),
        )

    def answer(self, model: str, reply: Reply, received: HttpResponse) -> APIResponse:
        """The response for a reply of a model. Its cost is not known yet."""
        return APIResponse(
            id=self.id,
            model_internal=model,
            model_external=reply.model,
            content=reply.content,
            usage=reply.usage,
            finish_reason=reply.finish_reason,
            logprobs=reply.logprobs,
            status_code=received.status,
            response_id=reply.response_id,
            raw_body=received.body,
            sample=self.sample,
        )

    def error(self, message: str, *, model: str, status: int | None = None) -> APIResponse:
        """The response when there is no answer."""
        return error_response(self.id, message, model=model, status=status, sample=self.sample)


def error_response(id: int, message: str, *, model: str, status: int | None = None, sample: int = 0) -> APIResponse:
    """The response of a prompt that has no answer."""
    return APIResponse(
        id=id, model_internal=model, status_code=status, is_error=True, error_message=message, sample=sample
    )
