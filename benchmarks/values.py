"""What prompts cost before they are sent: ``python -m benchmarks.values``. Microseconds each, best of five rounds."""

import gc
import time
from collections.abc import Callable

from benchmarks import workload
from lm_deluge import Conversation
from lm_deluge.prompt import as_conversation

_COUNT = 20_000
_ROUNDS = 5


def _microseconds(function: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        gc.collect()
        began = time.process_time()
        kept = function()
        best = min(best, time.process_time() - began)
        del kept
    return best / _COUNT * 1e6


def main() -> None:
    """Print the table."""
    texts = list(workload.prompts(_COUNT))
    long = "You grade essays by these rules. " * 2_500
    base = Conversation.system(long)
    _ = base.digest
    rows = {
        "text to conversation, all kept": lambda: [as_conversation(text) for text in texts],
        "text to digest": lambda: [as_conversation(text).digest for text in texts],
        "child of an 80 kB prefix to digest": lambda: [base.user(text).digest for text in texts],
        "the same, prefix not shared": lambda: [Conversation.system(long).user(text).digest for text in texts],
    }
    for name, function in rows.items():
        print(f"{name:36}{_microseconds(function):8.1f} us")


if __name__ == "__main__":
    main()
