"""What an event loop leaves is done by a thread; what it is about to do is left to it."""

import asyncio
import threading
import time

from lm_deluge import _overdue


class Answer:
    def __init__(self):
        self.is_settled = False
        self.by = None
        self.after = None
        self._came = time.monotonic()

    def settle_if_idle(self):
        if not self.is_settled:
            self.is_settled, self.by, self.after = True, threading.current_thread(), time.monotonic() - self._came


def test_a_loop_that_gets_on_is_left_alone_however_far_behind_it_is(monkeypatch):
    monkeypatch.setattr(_overdue, "_SECONDS", 0.4)  # not a busy machine's doing
    monkeypatch.setattr(_overdue, "_MOST_SECONDS", 60.0)

    async def main():
        answers = [Answer() for _ in range(60)]
        for answer in answers:
            _overdue.announce(answer)
        for answer in answers:  # for longer than a loop that stands still has
            time.sleep(0.02)
            answer.settle_if_idle()
        return {answer.by for answer in answers}

    assert asyncio.run(main()) == {threading.current_thread()}


def test_a_loop_that_stands_still_loses_its_turn():
    async def main():
        answers = [Answer() for _ in range(3)]
        for answer in answers:
            _overdue.announce(answer)
        until = time.monotonic() + 20
        while not all(answer.is_settled for answer in answers):
            assert time.monotonic() < until
            time.sleep(0.005)
        return answers

    answers = asyncio.run(main())
    assert {answer.by.name for answer in answers} == {"lm_deluge overdue"}
    assert min(answer.after for answer in answers) >= 0.05


def test_a_loop_that_stands_still_beside_one_that_gets_on_waits_a_little_longer():
    """Their answers are in one queue, and nobody's wait is without end."""
    over = threading.Event()
    found = []

    async def stands_still():
        answer = Answer()
        _overdue.announce(answer)
        while not answer.is_settled and not over.wait(0.005):
            pass
        found.append(answer)
        over.set()

    async def gets_on():
        until = time.monotonic() + 20
        while not over.is_set() and time.monotonic() < until:
            answer = Answer()
            _overdue.announce(answer)
            answer.settle_if_idle()
            time.sleep(0.002)

    other = threading.Thread(target=lambda: asyncio.run(stands_still()))
    other.start()
    asyncio.run(gets_on())
    over.set()
    other.join(20)
    assert found[0].by.name == "lm_deluge overdue"


def test_a_loop_that_has_ended_is_not_waited_for():
    async def ends():
        answer = Answer()
        _overdue.announce(answer)
        return answer

    async def gets_on(ended):
        until = time.monotonic() + 20
        while not ended.is_settled and time.monotonic() < until:
            answer = Answer()
            _overdue.announce(answer)
            answer.settle_if_idle()
            time.sleep(0.002)

    ended = asyncio.run(ends())
    asyncio.run(gets_on(ended))
    assert ended.by.name == "lm_deluge overdue"


def test_flush_leaves_nothing():
    async def main():
        answers = [Answer() for _ in range(5)]
        for answer in answers:
            _overdue.announce(answer)
        _overdue.flush()
        return answers

    assert all(answer.is_settled for answer in asyncio.run(main()))
