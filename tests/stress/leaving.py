"""The process that leaves runs: ``python -m tests.stress.leaving``.

Each line on its input is a round (``Round`` as JSON): it starts a run, leaves it in the way that the round names, and,
where the process lives on, may run the same prompts again. Each line on its output is what came of a round. It ends
when its input does, or in the way that the round asks for. A round that takes longer than 60 seconds ends the process
with a traceback of all threads.
"""

import asyncio
import faulthandler
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import uvloop

from lm_deluge import LLMClient
from lm_deluge.cache import SqliteCache
from lm_deluge.events import AnswerReceived, Event
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import PromptCache
from lm_deluge.response import APIResponse

from .spec import PREFIX, SECONDS, Outcome, Round, wrong_with
from .watch import Marks, Watched, make_client, text_of

_PATIENCE = 20.0  # seconds in which answers arrive, however busy the machine is


class Left(Exception):
    """Raised where a round says so."""


class Ended(BaseException):
    """The same, and no ``Exception``: as the panic of native code would be."""


class Leaver:
    """One round."""

    def __init__(self, round: Round) -> None:
        self.round = round
        self.rng = random.Random(round.seed)
        self.marks = Marks(round.marks)
        self.asked = [name for name in round.names for _ in range(round.each)]
        self.heard = 0
        self.happened = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.open()

    def open(self) -> None:
        """A cache and a client."""
        self.cache = SqliteCache(self.round.path)
        self.transport = Watched(self.marks, phase="1", seed=self.rng.randrange(2**32))
        self.client = self.make_client(self.transport, listeners=[self.listen])

    def make_client(self, transport: Watched, **more: Any) -> LLMClient:
        return make_client(
            self.round.port,
            transport,
            cache=self.cache,
            single_flight=self.round.single_flight,
            max_concurrent_requests=self.round.concurrency,
            **more,
        )

    # -- the run that is left --------------------------------------------------------------------------------------

    def prompts(self) -> list[Conversation]:
        start = PREFIX if self.round.warm else Conversation()
        return [start.user(text_of(name)) for name in self.asked]

    def options(self) -> dict[str, Any]:
        return {"show_progress": False, **({"cache": PromptCache("system_and_tools")} if self.round.warm else {})}

    def given(self, api: str) -> Any:
        """The prompts as the round gives them: an iterable that raises, if that is its way."""
        prompts = self.prompts()
        if self.round.way != "prompts":
            return prompts

        def some() -> Iterator[Conversation]:
            for number, prompt in enumerate(prompts):
                if number >= self.round.at:
                    self.transport.wait(1, 2)
                    raise Left
                yield prompt

        async def some_async() -> AsyncIterator[Conversation]:
            for number, prompt in enumerate(prompts):
                if number >= self.round.at:
                    await self.until(1)
                    raise Left
                yield prompt

        return some() if api == "sync" or self.rng.random() < 0.5 else some_async()

    def listen(self, event: Event) -> None:
        if isinstance(event, AnswerReceived) and self.transport.phase == "1":
            self.heard += 1
            if self.heard == self.round.at:
                if self.round.way == "listener":
                    raise Left
                if self.round.way == "listener exits":
                    raise SystemExit(3)
                if self.round.way == "listener ends":
                    raise Ended

    async def until(self, arrived: int) -> None:
        end = time.monotonic() + _PATIENCE
        while self.transport.arrived < arrived and not self.transport.over and time.monotonic() < end:
            await asyncio.sleep(0.001)

    async def collect(self) -> None:
        try:
            await self.collect_all()
        finally:
            self.transport.over = True

    async def collect_all(self) -> None:
        if self.round.api == "async":
            for response in await self.client.process_prompts_async(self.given("async"), **self.options()):
                self.tell(response)
            return
        run = self.client.process_prompts_iter(self.given("iter"), **self.options())
        told = 0
        async for response in run:
            self.tell(response)
            told += 1
            if told < self.round.at:
                continue
            match self.round.way:
                case "break":
                    break
                case "aclose":
                    await run.aclose()
                    break
                case "body":
                    raise Left
                case "exit":
                    sys.exit(3)

    def tell(self, response: APIResponse) -> None:
        if not response.is_error:
            self.marks.note("told", "1", self.asked[response.id])

    async def main(self) -> None:
        """The run, and what leaves it from within its loop."""
        match self.round.way:
            case "cancel" | "cancel and go":
                task = asyncio.create_task(self.collect())
                await self.until(self.round.at)
                await asyncio.sleep(self.round.after)
                task.cancel()
                if self.round.way == "cancel":
                    with suppress(asyncio.CancelledError):
                        await task
            case "timeout":
                async with asyncio.timeout(0.02 + 3 * self.round.after):
                    await self.collect()
            case "sigterm cancels":
                task = asyncio.ensure_future(self.collect())
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
                try:
                    await task
                finally:
                    while not self.happened:  # the loop's end takes the handler away
                        await asyncio.sleep(0.002)
            case "close client" if self.closes_itself:
                task = asyncio.create_task(self.collect())
                await self.until(self.round.at)
                self.marks.note("closing", "1", self.round.name)
                await self.client.aclose()
                self.marks.note("closed", "1", self.round.name)
                await task
            case _:
                await self.collect()

    @property
    def closes_itself(self) -> bool:
        """Whether the client is closed in the loop of the run, and not by another thread."""
        return self.round.way == "close client" and self.round.api != "sync" and self.round.seed % 2 == 1

    def sync(self) -> None:
        try:
            for response in self.client.process_prompts_sync(self.given("sync"), **self.options()):
                self.tell(response)
        finally:
            self.transport.over = True

    def run(self) -> None:
        """Run it, in the loop that the round asks for."""
        sync = self.round.api == "sync"
        match self.round.runner:
            case "asyncio" | "uvloop" | "thread" if sync:
                self.sync()
            case "asyncio" | "thread":
                asyncio.run(self.main())
            case "uvloop":
                uvloop.run(self.main())
            case "nested":  # as in a notebook

                async def cell() -> None:
                    self.sync()

                asyncio.run(cell())
            case "own" | "own uvloop":
                self.loop = (
                    uvloop.new_event_loop() if self.round.runner.endswith("uvloop") else asyncio.new_event_loop()
                )
                if self.round.way == "loop closed":
                    self.close_loop(self.loop)
                else:
                    self.loop.run_until_complete(self.main())
            case other:
                raise ValueError(other)

    def close_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(lambda loop, context: None)
        task = loop.create_task(self.collect())
        loop.run_until_complete(self.until(self.round.at))
        if self.round.seed % 2:
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        self.loop = None
        with suppress(RuntimeError):
            task.cancel()

    # -- what happens to it ----------------------------------------------------------------------------------------

    def happen(self) -> None:
        """In a thread: wait for the moment, and do it."""
        try:
            self.do()
        finally:
            self.happened = True

    def do(self) -> None:
        self.transport.wait(self.round.at, _PATIENCE)
        time.sleep(self.round.after)
        match self.round.way:
            case "sigint":
                self.send_signals(signal.SIGINT)
            case "sigterm" | "sigterm cancels" | "sigterm exits":
                self.send_signals(signal.SIGTERM)
            case "close client" | "close cache" | "close both" if not self.closes_itself:
                self.marks.note("closing", "1", self.round.name)
                if self.round.way != "close cache":
                    self.client.close()
                if self.round.way != "close client":
                    self.cache.close()
                self.marks.note("closed", "1", self.round.name)

    def send_signals(self, number: signal.Signals) -> None:
        for _ in range(self.round.signals):
            os.kill(os.getpid(), number)
            time.sleep(0.01 + self.rng.random() * self.round.gap * (self.round.signals > 1))

    def leave(self) -> str:
        """Start the run and leave it. Returns what it raised."""
        raised: list[str] = []

        def first() -> None:
            try:
                self.run()
            except KeyboardInterrupt:
                raised.append("KeyboardInterrupt")
                raise
            except BaseException as error:  # it is the way of this round
                raised.append(type(error).__name__)

        if self.round.way == "sigterm exits":
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
        happens = threading.Thread(target=self.happen, daemon=True)
        others = [threading.Thread(target=self.accompany) for _ in range(self.round.threads - 1)]

        def begin() -> None:
            happens.start()  # a signal may strike from here on
            first()

        for thread in others:
            thread.start()
        if self.round.dies or self.round.way.startswith("main ends"):
            happens.start()
        if self.round.way.startswith("main ends"):
            threading.Thread(target=self.run, daemon=self.round.way.endswith("daemon")).start()
            self.transport.wait(self.round.at, _PATIENCE)
            return ""
        if self.round.dies:
            self.run()
            while not self.happened:
                time.sleep(0.002)
        elif self.round.runner == "thread":
            thread = threading.Thread(target=self.outlast, args=(begin,))
            thread.start()
            thread.join()
        else:
            self.outlast(begin)
        for thread in others:
            thread.join()
        if self.round.way == "sigterm exits":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.marks.note("ended", "1", self.round.name)
        return ", ".join(raised)

    def outlast(self, first: Callable[[], None], layers: int = 6) -> None:
        """Call ``first``, and return when nothing more is going to happen, however often that is interrupted.

        An interrupt that strikes in the handling of another one is caught a layer further out. A thread that
        was interrupted in ``Thread.join`` takes the other for ended (Python 3.11), so a flag says when that is.
        """
        try:
            if layers:
                self.outlast(first, layers - 1)
            else:
                first()
            while not self.happened:
                time.sleep(0.002)
        except (KeyboardInterrupt, SystemExit):
            pass

    def accompany(self) -> None:
        """The same run in another thread, by another client."""
        with suppress(Exception):  # a cache that was closed meanwhile
            transport = Watched(self.marks, phase="o", seed=self.rng.randrange(2**32))
            self.make_client(transport).process_prompts_sync(self.prompts(), **self.options())

    # -- and again -------------------------------------------------------------------------------------------------

    def again(self) -> str:
        """Run the same prompts in this process. Returns what is wrong with the responses."""
        client, self.transport.phase = self.client, "2"
        if self.round.way.startswith("close"):
            self.open()
            client, self.transport.phase = self.client, "2"
        elif self.round.fresh:
            client = self.make_client(Watched(self.marks, phase="2", seed=self.rng.randrange(2**32)))
        start: Callable[[], Coroutine[Any, Any, list[APIResponse]]]
        start = lambda: client.process_prompts_async(self.prompts(), **self.options())  # noqa: E731
        if self.loop is not None and not self.loop.is_closed():
            responses = self.loop.run_until_complete(start())
        elif self.round.api == "sync":
            responses = client.process_prompts_sync(self.prompts(), **self.options())
        else:
            responses = asyncio.run(start())
        return wrong_with(responses, self.asked)


def play(round: Round) -> Outcome:
    began = time.monotonic()
    leaver = Leaver(round)
    outcome = Outcome(name=round.name)
    outcome.ended = leaver.leave()
    outcome.seconds = time.monotonic() - began
    if round.again == "same":
        began = time.monotonic()
        outcome.wrong = leaver.again()
        outcome.again_seconds = time.monotonic() - began
    return outcome


def main() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        outcome = play(msgspec.json.decode(line, type=Round))
        sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        sys.stdout.flush()
        faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(SECONDS, exit=True)  # the end, too, has its time


if __name__ == "__main__":
    main()
