"""One fan-out, in a fresh process of the library's own interpreter.

    python -m benchmarks.fan_out_worker LIBRARY OPTIONS RESULT_FILE

As ``benchmarks.worker``: options as JSON in, figures as JSON out, standard library only besides the library, and every
answer compared with what it should be after the clock stopped. What it cost is for the server to say.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import workload


def check(answers: Sequence[str | None], count: int) -> None:
    """The right answer for each question, in order."""
    if len(answers) != count:
        raise AssertionError(f"{count} questions got {len(answers)} answers")
    for number, answer in enumerate(answers):
        if answer != workload.answer(number):
            raise AssertionError(f"question {number} was answered with {answer!r:.500}")


def main() -> None:
    library, options, result = sys.argv[1:]
    given = json.loads(options)
    system, questions = workload.many_shot(given.pop("prefix")), list(workload.prompts(given.pop("count")))
    adapter = importlib.import_module(f"benchmarks.fan_out.{library}").Adapter(**given)
    began = time.perf_counter()
    answers = adapter.ask(system, questions)
    seconds = time.perf_counter() - began
    check(answers, len(questions))
    Path(result).write_text(json.dumps({"seconds": seconds}))
    sys.stdout.flush()
    os._exit(0)  # as in ``benchmarks.worker``


if __name__ == "__main__":
    main()
