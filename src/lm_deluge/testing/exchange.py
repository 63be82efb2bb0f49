"""What a wire format gives the server: an endpoint accepts requests, and an exchange answers one of them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from lm_deluge.testing.answers import Finished
from lm_deluge.testing.bill import Served
from lm_deluge.testing.decoding import Rejection
from lm_deluge.testing.stats import Limits
from lm_deluge.testing.values import CacheOutcome, ParsedRequest

__all__ = ["Endpoint", "Exchange"]


class Exchange:
    """One accepted request and the answer to it. By itself it generates nothing; a model's call says more.

    Args:
        request: what was asked.
        urls: URLs the provider would download before it answers.
    """

    def __init__(self, request: ParsedRequest, urls: tuple[str, ...]) -> None:
        self.request = request
        self.urls = urls

    @property
    def choices(self) -> int:
        """How many answers are wanted; 0 when nothing is generated."""
        return 0

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers."""
        return False

    @property
    def served(self) -> Served:
        """How it is served, as far as that decides the price."""
        return ()

    def digest(self) -> bytes:
        """What the model reads, as a digest: the same whether streamed or not, cached or not."""
        return b""

    def look_up(self, now: float) -> CacheOutcome:
        """Read the prompt cache for a request that starts now."""
        return CacheOutcome()

    def publish(self) -> None:
        """Make this request's cache writes readable: its answer begins."""

    def body(self, answers: Sequence[Finished]) -> bytes:
        """The body of a plain answer."""
        raise NotImplementedError

    def events(self, answers: Sequence[Finished]) -> list[bytes]:
        """The server-sent events of a streamed answer, each with its final blank line."""
        return []


class Endpoint(Protocol):
    """One path of one wire format. Its caches live as long as it does."""

    @property
    def path(self) -> str: ...
    @property
    def generates(self) -> bool:
        """Whether requests here count as calls of a model."""
        ...

    def credential(self, headers: Mapping[str, str]) -> str:
        """The caller's credential.

        Raises:
            Rejection: there is none (401).
        """
        ...

    def accept(self, headers: Mapping[str, str], body: bytes, *, credential: str, identity: str) -> Exchange:
        """Check a request.

        Args:
            headers: names in lower case.
            body: as received.
            credential: the caller.
            identity: unique to this request; ids in the answer are made from it.

        Raises:
            Rejection: the provider would refuse it.
        """
        ...

    def download_failed(self, url: str, problem: str) -> Rejection:
        """The refusal of a request whose URL could not be downloaded."""
        ...

    def error(self, rejection: Rejection, request_id: str) -> bytes:
        """The body of an error answer."""
        ...

    def error_event(self, rejection: Rejection, request_id: str) -> bytes:
        """An error in the middle of a stream."""
        ...

    def headers(self, request_id: str, limits: Limits) -> list[tuple[bytes, bytes]]:
        """Headers of every answer: the request's id and the rate limits."""
        ...

    def clear(self) -> None:
        """Forget the prompt cache."""
        ...
