"""How long moving answers takes, and how large bundles are: ``python -m benchmarks.bundles [entries]``."""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks import workload
from lm_deluge import APIResponse, Conversation, Message, Usage
from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import export, load, rekey
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.config import SamplingParams
from lm_deluge.models import resolve
from lm_deluge.request import Parameters

_COUNT = 10_000
_PREFIXES = {
    "questions alone": Conversation(),
    "80 kB prefix": Conversation.system(" ".join(workload.prompt(number) for number in range(400))[:80_000]),
}


def _answer(number: int) -> APIResponse:
    text = workload.answer(number)
    body = {
        "id": f"chatcmpl-{number * 7919:024d}",
        "object": "chat.completion",
        "model": "gpt-4.1-mini-2025-04-14",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 100},
    }
    return APIResponse(
        model_internal="gpt-4.1-mini",
        model_external="gpt-4.1-mini-2025-04-14",
        content=Message.ai(text),
        usage=Usage(input_tokens=100, output_tokens=100),
        cost=1e-4,
        finish_reason="stop",
        status_code=200,
        raw_body=msgspec.json.encode(body),
    )


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _measure(name: str, prefix: Conversation, count: int, directory: Path) -> None:
    parameters = Parameters.of(resolve("gpt-4.1-mini", environ={}), SamplingParams(temperature=0.0))
    with SqliteCache(directory / "cache.db") as cache:
        for number in range(count):
            cache.put(prefix.user(workload.prompt(number)), _answer(number), parameters)
    here, there = SqliteStore(directory / "cache.db"), SqliteStore(directory / "other.db")
    plain, packed = directory / "a.jsonl", directory / "a.jsonl.gz"
    figures = {
        "export": _seconds(lambda: export(here, plain)),
        "to .gz": _seconds(lambda: export(here, packed)),
        "import": _seconds(lambda: load(there, plain)),
        "again": _seconds(lambda: load(there, plain)),
        "rekey": _seconds(lambda: rekey(there, namespace_to="other")),
    }
    here.close()
    there.close()
    sizes = [path.stat().st_size / count for path in (directory / "cache.db", plain, packed)]
    times = "  ".join(f"{figure} {seconds / count * 1e6:.0f} us" for figure, seconds in figures.items())
    print(f"{name:18}{times}")
    print(f"{'':18}bytes an entry: SQLite {sizes[0]:.0f}, bundle {sizes[1]:.0f}, compressed {sizes[2]:.0f}")


def main() -> None:
    """Print microseconds and bytes an entry."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _COUNT
    for name, prefix in _PREFIXES.items():
        with tempfile.TemporaryDirectory() as directory:
            _measure(name, prefix, count, Path(directory))
    print(f"{count:,} entries; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB of memory")


if __name__ == "__main__":
    main()
