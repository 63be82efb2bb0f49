"""Errors of servers and gateways that repeat the credentials they were sent: status, headers, and the body.

Nothing of them is in a message, a ``repr``, an event, a log record, a warning or a line of results, however the error
comes: with a status of its own, inside a 200, or as an event of a stream.
"""

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from .. import edits, samples
from ..asking import ask
from ..judge import SECRETS
from ..using import MODELS
from .bodies import response_of

SECONDS = 12.0
_STATUS = [200, 400, 401, 403, 404, 407, 413, 418, 429, 500, 502, 529, 302, 204, 201]
_HEADERS: list[dict[str, str]] = [
    {},
    {"retry-after": "0", "x-should-retry": "false"},
    {"location": f"https://u:{SECRETS['key']}@b/", "www-authenticate": SECRETS["key"]},
    {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT", "anthropic-ratelimit-tokens-remaining": "0"},
]


def target(data: bytes, tmp: Path) -> list[str]:
    return ask(MODELS[len(data) % 2].name, response_of(data), stream=len(data) % 4 > 1)


def cases() -> st.SearchStrategy[bytes]:
    json = edits.trees_like(samples.ERRORS, _escaped)
    other = edits.bytes_like([msgspec.json.encode(error) for error in samples.ERRORS] + _PAGES)
    streamed = edits.trees_like([[event] for event in samples.ERRORS[:8]], _stream)
    return st.builds(
        _join, st.sampled_from(_STATUS), st.sampled_from(_HEADERS), st.one_of(json, edits.edited(json), other, streamed)
    )


_PAGES = [
    f"<html><h1>403</h1><pre>Authorization: Bearer {SECRETS['key']}\nCookie: id={SECRETS['cookie']}</pre>".encode(),
    f"no such key {SECRETS['key']}".encode("utf-16"),
    f"upstream: https://x/?api_key={SECRETS['key'].replace('/', '%2F').replace('+', '%2B')}".encode(),
    SECRETS["header"].upper().encode(),
]


def _join(status: int, headers: dict[str, str], body: bytes) -> bytes:
    return b"%d %s\n%s" % (status, msgspec.json.encode(headers), body)


def _escaped(tree: Any) -> bytes:
    """JSON; by its length, with slashes or letters escaped as other writers do it."""
    plain = msgspec.json.encode(tree)
    match len(plain) % 3:
        case 0:
            return plain
        case 1:
            return plain.replace(b"/", b"\\/")
        case _:
            return plain.replace(b"K3", b"\\u004b\\u0033")


def _stream(tree: Any) -> bytes:
    return b"".join(b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n" for event in tree)
