"""What explaining misses costs, and how often the right entry is found: ``python -m benchmarks.explain [COUNT]``.

Prompts are GSM8K questions, by themselves and behind a system message of 80 kB. Each is asked again with one word
changed, in its first, middle or last third, and with two; a find is right when the nearest entry is the one of the
unchanged question. Questions repeat after 1,319 with another number at the end, so near duplicates abound.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import msgspec

from benchmarks import workload
from lm_deluge import Conversation
from lm_deluge.cache.codec import encode
from lm_deluge.cache.entry import Entry, Facts
from lm_deluge.cache.explain import Searcher, Wanted, explain
from lm_deluge.cache.record import pack_request
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.canonical import conversation_key
from lm_deluge.prompt import Message
from lm_deluge.response import APIResponse

_COUNT = 20_000
_MISSES = 300
_PREFIXES = {
    "short": Conversation.system("You solve problems. Answer with a number."),
    "80 kB": Conversation.system("You grade essays by these rules. " * 2_500),
}


class _Figures(msgspec.Struct):
    prepare: float
    times: list[float]
    right: dict[str, float]


def _entry(conversation: Conversation, number: int) -> Entry:
    key = conversation_key("default", conversation.digest)
    response = APIResponse(model_internal="gpt-4.1-mini", content=Message.ai(workload.answer(number)))
    request = pack_request(conversation)
    return Entry(
        key=key,
        value=encode(key, response, created=1.0 + number),
        request=request.data,
        refers=request.refers,
        blobs=request.blobs,
        facts=Facts(created=1.0 + number),
    )


def _change(text: str, thirds: tuple[int, ...]) -> str:
    words = text.split(" ")
    for third in thirds:
        words[random.randrange(third * len(words) // 3, (third + 1) * len(words) // 3)] = "something"
    return " ".join(words)


def _measure(store: MemoryStore | SqliteStore, prefix: Conversation, count: int) -> _Figures:
    for start in range(0, count, 1_000):
        numbers = range(start, min(start + 1_000, count))
        store.put_many([_entry(prefix.user(workload.prompt(number)), number) for number in numbers])
    searcher = Searcher(store, search=count)
    began = time.perf_counter()
    searcher.prepare()
    figures = _Figures(time.perf_counter() - began, [], {})
    random.seed(1)
    for name, thirds in {"start": (0,), "middle": (1,), "end": (2,), "two": (0, 2)}.items():
        right = 0
        for _ in range(_MISSES // 4):
            number = random.randrange(count)
            wanted = Wanted(conversation=prefix.user(_change(workload.prompt(number), thirds)))
            began = time.perf_counter()
            found = explain(store, wanted, now=1e9, searcher=searcher)
            figures.times.append(time.perf_counter() - began)
            expected = conversation_key("default", prefix.user(workload.prompt(number)).digest).hex()
            right += bool(found.nearest) and found.nearest[0].key == expected
        figures.right[name] = right / (_MISSES // 4)
    return figures


@contextmanager
def _sqlite() -> Iterator[SqliteStore]:
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory) / "cache.db")
        try:
            yield store
        finally:
            store.close()


@contextmanager
def _memory() -> Iterator[MemoryStore]:
    yield MemoryStore()


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _COUNT
    print(f"{count:,} entries, {_MISSES} misses")
    stores: dict[str, Callable[[], object]] = {"memory": _memory, "SQLite": _sqlite}
    for name, opened in stores.items():
        for prefix, conversation in _PREFIXES.items():
            with opened() as store:  # type: ignore[attr-defined]
                figures = _measure(store, conversation, count)
            slow = quantiles(figures.times, n=20)[-1]
            right = ", ".join(f"{where} {share:.0%}" for where, share in figures.right.items())
            print(
                f"{name:8}{prefix:7}read once {figures.prepare:6.2f} s   a miss {median(figures.times) * 1e3:5.1f} ms "
                f"(95%: {slow * 1e3:5.1f} ms)   right: {right}"
            )


if __name__ == "__main__":
    main()
