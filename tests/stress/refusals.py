"""Run 600 prompts against providers that never answer: how long that takes, and how many calls it makes.

``python -m tests.stress.refusals --limit 150`` prints a row for each: 429 without end (with ``retry-after`` and
without), 503, an expired key, a server that is down, a name that does not resolve. A run that has not ended after the
limit is cancelled. Ends with status 1 if one had to be, or if a prompt has no error response.
"""

import argparse
import asyncio
import contextlib
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lm_deluge.response import APIResponse

from . import driving
from .watch import Marks, Watched, make_client, text_of

__all__ = ["CASES", "Refused", "main", "play"]

CASES = {
    "429": {"status": 429},
    "429, no retry-after": {"status": 1429},
    "503": {"status": 503},
    "401": {"status": 401},
    "server down": {"base_url": "http://127.0.0.1:{closed}/v1"},
    "no such name": {"base_url": "http://provider.invalid/v1"},
}


class Refused(msgspec.Struct):
    """What came of a case."""

    case: str
    prompts: int
    seconds: float = 0.0
    calls: int = 0
    ended: bool = False
    responses: int = 0
    answers: int = 0
    last: float = 0.0
    message: str = ""

    @property
    def is_bad(self) -> bool:
        return not self.ended or self.responses != self.prompts or bool(self.answers)


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def _play(
    case: str, *, prompts: int, limit: float, port: int, directory: Path, options: dict[str, Any]
) -> Refused:
    given = dict(CASES[case])
    transport = Watched(
        Marks(str(directory / "marks")), phase="1", milliseconds=(5, 20), status=int(given.pop("status", 200))
    )
    url = {"base_url": str(given["base_url"]).format(closed=_closed_port())} if given else {}
    client = make_client(port, transport, **url, **options)
    refused = Refused(case, prompts)
    began = time.monotonic()

    def take(response: APIResponse) -> None:
        refused.responses += 1
        refused.answers += not response.is_error
        refused.message = response.error_message or ""
        refused.last = time.monotonic() - began

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            asked = (text_of(f"{case.split(',')[0].replace(' ', '-')}:{number}") for number in range(prompts))
            async for response in client.process_prompts_iter(asked, show_progress=False):
                take(response)
            refused.ended = True
    refused.seconds = time.monotonic() - began
    refused.calls = transport.sent
    return refused


def play(
    cases: Sequence[str] = tuple(CASES),
    *,
    prompts: int = 600,
    limit: float = 150,
    options: dict[str, Any] | None = None,
) -> list[Refused]:
    """Each case, one after another.

    Args:
        cases: their names.
        prompts: of each.
        limit: seconds that a run may take.
        options: further arguments of the client.
    """
    with tempfile.TemporaryDirectory(prefix="refusals-") as name, driving.server(Path(name) / "server.log") as port:
        directory = Path(name)
        return [
            asyncio.run(
                _play(case, prompts=prompts, limit=limit, port=port, directory=directory, options=options or {})
            )
            for case in cases
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.refusals", description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--limit", type=float, default=150, help="seconds that a run may take")
    parser.add_argument("--give-up-after", type=float, default=300, help="the client's argument, in seconds")
    parser.add_argument("--case", action="append", default=[], choices=list(CASES))
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    options = {"give_up_after": given.give_up_after}
    results = play(given.case or tuple(CASES), prompts=given.prompts, limit=given.limit, options=options)
    titles = ["provider", "ended", "seconds", "calls", "responses", "last at", "the last error"]
    rows = [
        [
            each.case,
            "yes" if each.ended else "no",
            f"{each.seconds:.1f}",
            f"{each.calls:,}",
            f"{each.responses:,} of {each.prompts:,}",
            f"{each.last:.1f} s",
            each.message[:70],
        ]
        for each in results
    ]
    print(driving.table(titles, rows))
    return 1 if any(each.is_bad for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
