"""Reading an answer that arrives in pieces.

A stream is put back together into the very object that the same request would have been answered with at once, and
then read by the same function. So both ways cannot drift apart.

Not every server does as it is asked: some answer a streamed request at once, and some stream unasked. What an answer
is, its bytes say.
"""

import msgspec

from lm_deluge._secrets import NO_SECRETS, Secrets
from lm_deluge.errors import ProtocolError
from lm_deluge.models import Model
from lm_deluge.providers._json import decode_object
from lm_deluge.providers._registry import wire_format
from lm_deluge.providers._values import Delta, Failure, Reply
from lm_deluge.providers.answer import parse, read_reply
from lm_deluge.providers.failures import failure_from_error, invalid_response
from lm_deluge.providers.sse import EventDecoder
from lm_deluge.usage import Usage
from lm_deluge.wire import HttpResponse

__all__ = ["StreamReader", "as_whole"]

_BLANK = b"\xef\xbb\xbf \t\r\n"
_NO_EVENT = b'{[<"'  # how JSON and pages begin, and no line of an event stream does
_EVENT = (b"data:", b"event:", b"id:", b"retry:", b":")
_END = b"[DONE]"


def as_whole(model: Model, body: bytes, *, secrets: Secrets = NO_SECRETS) -> bytes | Failure:
    """The one object that an answer with status 200 to a request for a whole one holds, though it came as events.

    A body that is no stream, and does not end like one, is returned as it is.
    """
    if body[-16:].rstrip().endswith(_END) and body.lstrip(_BLANK)[:1] == b"{":
        return body[: body.rindex(b"data:")] if b"data:" in body[-64:] else body
    if body[:1] == b"{" or not body[:256].lstrip(_BLANK).startswith(_EVENT):
        return body
    reader = StreamReader(model, secrets=secrets)
    reader.feed(body)
    outcome = reader.result()
    return outcome if isinstance(outcome, Failure) else reader.body()


class StreamReader:
    """Reads the body of an answer with status 200 to a streamed request, in pieces of any size.

    A body that is no event stream is read as a whole answer.
    """

    def __init__(self, model: Model, *, secrets: Secrets = NO_SECRETS) -> None:
        self._model = model
        self._secrets = secrets
        self._decoder = EventDecoder()
        self._format = wire_format(model)
        self._fold = self._format.fold()
        self._failure: Failure | None = None
        self._is_blank = True
        self._whole: list[bytes] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the answer has begun; comments, pings and errors do not count."""
        return self._fold.has_begun

    def feed(self, chunk: bytes) -> list[Delta]:
        """Take bytes in, and return what they added to the answer. Never raises."""
        if self._is_blank and (start := chunk.lstrip(_BLANK)):
            self._is_blank = False
            if start[:1] in _NO_EVENT:
                self._whole = []
        if self._whole is not None:
            self._whole.append(chunk)
            return []
        return [delta for data in self._decoder.feed(chunk) for delta in self._take(data)]

    def body(self) -> bytes:
        """The answer as the provider would have sent it at once, as far as it has come."""
        if self._whole is not None:
            return b"".join(self._whole)
        return msgspec.json.encode(self._fold.answer())

    def result(self) -> Reply | Failure:
        """The answer, once the body has ended.

        A stream that ended before its last event is a failure, as is an error that the server sent in its middle: the
        text that came before it is not the model's answer.
        """
        if self._whole is not None:
            whole = HttpResponse(status=200, headers={}, body=self.body())
            return parse(self._model, whole, now=0.0, secrets=self._secrets)
        for data in self._decoder.close():
            self._take(data)
        failure = self._failure
        if failure is None and not self._fold.is_complete:
            failure = invalid_response(self._model, "the stream ended before the answer did", kind="truncated_stream")
        if failure is not None:
            return msgspec.structs.replace(failure, usage=self._usage_so_far())
        return read_reply(self._model, self._fold.answer())

    def _usage_so_far(self) -> Usage | None:
        """What has been charged by now, where the server says so at the beginning."""
        if not self._fold.has_begun:
            return None
        reply = read_reply(self._model, self._fold.answer())
        return reply.usage if isinstance(reply, Reply) else None

    def _take(self, data: str) -> list[Delta]:
        if self._failure is not None or not data.strip():
            return []
        if data.strip() == "[DONE]":
            self._fold.end()
            return []
        event = decode_object(data, self._format.answer_fields)
        if event is None:
            return self._fail("an event is not a JSON object")
        error = self._format.error(event)
        if error is not None:
            if not self._fold.is_complete:  # what is complete has been paid for and is kept
                self._failure = failure_from_error(self._model, error, status=200, secrets=self._secrets)
            return []
        try:
            return self._fold.add(event)
        except ProtocolError as misfit:
            return self._fail(str(misfit))

    def _fail(self, reason: str) -> list[Delta]:
        self._failure = invalid_response(self._model, reason)
        return []
