"""The mock transport, and that both transports keep the same protocol."""

import asyncio

import pytest

import lm_deluge.transport as package
from lm_deluge.errors import ConnectionDropped
from lm_deluge.transport import AsyncioTransport, MockTransport, StreamedResponse, Transport
from lm_deluge.wire import HttpRequest, HttpResponse

REQUEST = HttpRequest(method="POST", url="https://api.example.com/v1", headers={"x-api-key": "SECRET"}, body=b"{}")


def keeps_the_protocol(real: AsyncioTransport, mock: MockTransport) -> tuple[Transport, Transport]:
    return real, mock  # the type checker is what looks at this


def test_a_handler_answers_directly_or_later_and_requests_are_kept():
    async def later(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        return HttpResponse(status=201, headers={}, body=request.body * 2)

    async def main():
        direct = MockTransport(lambda request: HttpResponse(status=200, headers={"a": "b"}, body=request.body))
        answers = [await direct.send(REQUEST, timeout=1), await MockTransport(later).send(REQUEST, timeout=1)]
        await direct.aclose()
        return answers, direct

    answers, direct = asyncio.run(main())
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"{}"), (201, b"{}{}")]
    assert direct.requests == [REQUEST]
    assert "SECRET" not in repr(direct)


def test_a_handler_plays_failures():
    def drop(request: HttpRequest) -> HttpResponse:
        raise ConnectionDropped("played")

    async def main():
        transport = MockTransport(drop)
        with pytest.raises(ConnectionDropped, match="played"):
            await transport.send(REQUEST, timeout=1)
        with pytest.raises(ConnectionDropped, match="played"):
            async with transport.stream(REQUEST, timeout=1):
                pass
        return transport

    assert len(asyncio.run(main()).requests) == 2


def test_a_mocked_stream_has_the_body():
    async def main():
        transport = MockTransport(lambda request: HttpResponse(status=200, headers={"a": "b"}, body=b"body"))
        async with transport.stream(REQUEST, timeout=1) as response:
            assert isinstance(response, StreamedResponse)
            return response.status, dict(response.headers), await response.read()

    assert asyncio.run(main()) == (200, {"a": "b"}, b"body")


def test_exported_names():
    assert sorted(package.__all__) == [
        "AiohttpTransport",
        "AsyncioTransport",
        "MockTransport",
        "StreamedResponse",
        "Transport",
        "as_transport",
    ]
    assert all(hasattr(package, name) for name in package.__all__)
