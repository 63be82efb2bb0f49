"""One case of ``workers.py`` in a process of its own: ``python -m tests.stress.worker_child CASE`` (as JSON)."""

import asyncio
import faulthandler
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from lm_deluge.cache import DistributedDictCache, MemoryCache, SqliteCache
from lm_deluge.events import AnswerReceived, Event
from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse
from lm_deluge.wire import HttpRequest, HttpResponse

from .spec import SECONDS, wrong_with
from .watch import Marks, Watched, make_client, text_of

__all__ = ["Case", "Outcome", "Panic"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is done.

    Attributes:
        place: where it raises: ``listener``, ``send``, ``put``, ``get``; or what else is done, see ``main``.
        raises: the name of what is raised, once.
        at: the call of the place at which it is raised.
        cache: ``sqlite``, ``memory``, ``mapping`` or ``object``.
    """

    place: str
    path: str
    port: int
    raises: str = ""
    at: int = 3
    cache: str = "sqlite"
    single_flight: bool = False
    prompts: int = 8

    @property
    def names(self) -> list[str]:
        return [f"w:{number}" for number in range(self.prompts)]

    @property
    def title(self) -> str:
        """For a row of a table."""
        return ", ".join(filter(None, [self.place, self.raises, self.cache, "single flight" * self.single_flight]))


class Outcome(msgspec.Struct, kw_only=True):
    """What came of it.

    Attributes:
        raised: what came out of the first run.
        responses: of the first run; -1 if it raised.
        wrong: what is wrong with the second run.
        calls: of the second run, and what else a case counts.
        seconds: what a case measures.
    """

    raised: str = ""
    responses: int = -1
    wrong: str = ""
    calls: int = 0
    seconds: float = 0.0


class Panic(BaseException):
    """What native code throws when it panics."""


_RAISED: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "CancelledError": asyncio.CancelledError,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "Panic": Panic,
    "ValueError": ValueError,
    "StopIteration": StopIteration,
}


class Trap:
    """Raises at the n-th call, once."""

    def __init__(self, case: Case, place: str) -> None:
        self._left = case.at if case.place == place else 0
        self._raised = _RAISED.get(case.raises, ValueError)
        self._lock = threading.Lock()

    def spring(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                raise self._raised("raised on purpose")


class Mapping(dict[str, Any]):
    """A dictionary with ``put``, as the documentation asks of one."""

    def __init__(self, case: Case) -> None:
        self._put, self._get = Trap(case, "put"), Trap(case, "get")

    def put(self, key: str, value: Any) -> None:
        self._put.spring()
        self[key] = value

    def get(self, key: str, default: Any = None) -> Any:
        self._get.spring()
        return super().get(key, default)


class Simple:
    """A cache as users write one."""

    def __init__(self, case: Case) -> None:
        self._put, self._get = Trap(case, "put"), Trap(case, "get")
        self._answers: dict[str, APIResponse] = {}

    def get(self, prompt: Conversation) -> APIResponse | None:
        self._get.spring()
        return self._answers.get(str(prompt))

    def put(self, prompt: Conversation, response: APIResponse) -> None:
        self._put.spring()
        self._answers[str(prompt)] = response


class Trapped(Watched):
    """A transport that raises."""

    def __init__(self, case: Case, marks: Marks) -> None:
        super().__init__(marks, phase="1", milliseconds=(5, 30))
        self._before, self._after = Trap(case, "send"), Trap(case, "sent")

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        self._before.spring()
        response = await super().send(request, timeout=timeout)
        self._after.spring()
        return response


def cache_of(case: Case) -> Any:
    match case.cache:
        case "sqlite":
            return SqliteCache(case.path)
        case "memory":
            return MemoryCache()
        case "mapping":
            return DistributedDictCache(Mapping(case), cache_key="stress")
        case _:
            return Simple(case)


def raise_somewhere(case: Case) -> Outcome:
    """A run in which something raises, and the same prompts again."""
    outcome = Outcome()
    listener = Trap(case, "listener")

    def listen(event: Event) -> None:
        if isinstance(event, AnswerReceived):
            listener.spring()

    marks = Marks(case.path + ".marks")
    transport = Trapped(case, marks)
    cache = cache_of(case)
    client = make_client(
        case.port, transport, cache=cache, single_flight=case.single_flight, listeners=[listen], request_timeout=10
    )
    prompts = [text_of(name) for name in case.names]
    try:
        outcome.responses = len(client.process_prompts_sync(prompts, show_progress=False))
    except BaseException as error:
        outcome.raised = type(error).__name__
    marks.note("ended", "1", "w")
    transport.phase = "2"
    before = transport.sent
    outcome.wrong = wrong_with(client.process_prompts_sync(prompts, show_progress=False), case.names)
    outcome.calls = transport.sent - before
    client.close()
    if not isinstance(cache, Simple):
        cache.close()
    return outcome


def fill(case: Case) -> None:
    with SqliteCache(case.path) as cache:
        client = make_client(case.port, Watched(Marks(case.path + ".marks"), phase="0"), cache=cache)
        client.process_prompts_sync(map(text_of, case.names), show_progress=False)
        client.close()


def main_thread_ends(case: Case) -> None:
    """A thread runs prompts that are cached, while the main thread ends. It says itself what came of that."""
    fill(case)
    started = threading.Event()

    def chunks() -> Any:
        for number, name in enumerate(case.names):
            if number == case.prompts // 4:
                started.set()
                threading.main_thread().join()
            yield text_of(name)

    def work() -> None:
        transport = Watched(Marks(case.path + ".marks"), phase="1")
        client = make_client(case.port, transport, cache=SqliteCache(case.path), single_flight=case.single_flight)
        outcome = Outcome()
        try:
            outcome.wrong = wrong_with(client.process_prompts_sync(chunks(), show_progress=False), case.names)
        except BaseException as error:
            outcome.raised = type(error).__name__
            outcome.wrong = repr(error)
        outcome.calls = transport.sent
        say(outcome)

    threading.Thread(target=work).start()
    started.wait()


def executor_full(case: Case) -> Outcome:
    """The user's own work fills the loop's default executor: how long until all that has arrived is stored."""
    outcome = Outcome()
    release = threading.Event()
    transport = Watched(Marks(case.path + ".marks"), phase="1", milliseconds=(5, 10))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(4))
        blocked = [loop.run_in_executor(None, release.wait, 30) for _ in range(8)]
        client = make_client(case.port, transport, cache=SqliteCache(case.path), single_flight=case.single_flight)
        began = time.monotonic()
        task = asyncio.create_task(client.process_prompts_async(map(text_of, case.names), show_progress=False))
        done, _ = await asyncio.wait([task], timeout=20)
        outcome.seconds = time.monotonic() - began
        outcome.wrong = "" if done else f"not done after {outcome.seconds:.0f} s; {transport.arrived} had arrived"
        release.set()
        outcome.wrong = outcome.wrong or wrong_with(await task, case.names)
        await asyncio.gather(*blocked)

    asyncio.run(main())
    outcome.calls = transport.sent
    return outcome


def first_second(case: Case) -> None:
    """The first answers of a process; its parent kills it. What is handed over is said at once."""
    transport = Watched(Marks(case.path + ".marks"), phase="1", milliseconds=(1, 3))
    client = make_client(case.port, transport, cache=SqliteCache(case.path), single_flight=case.single_flight)
    client.process_prompts_sync(map(text_of, case.names), show_progress=False)
    say(Outcome())
    time.sleep(30)


def say(outcome: Outcome) -> None:
    os.write(1, msgspec.json.encode(outcome) + b"\n")


def main() -> None:
    warnings.simplefilter("ignore")
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    case = msgspec.json.decode(sys.argv[1], type=Case)
    outcome: Outcome | None
    match case.place:
        case "main thread ends":
            outcome = main_thread_ends(case)  # type: ignore[func-returns-value]
        case "executor full":
            outcome = executor_full(case)
        case "first second":
            outcome = first_second(case)  # type: ignore[func-returns-value]
        case _:
            outcome = raise_somewhere(case)
    if outcome is not None:
        say(outcome)


if __name__ == "__main__":
    main()
