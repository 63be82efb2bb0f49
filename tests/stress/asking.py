"""The other process: ``python -m tests.stress.asking`` runs a round's prompts again, over the same cache file.

Each line on its input is ``Again`` as JSON, each on its output ``Found``. It has nothing to do with the process that
left the round but the file.
"""

import faulthandler
import sys
import time
import warnings

import msgspec

from lm_deluge.cache import SqliteCache
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import PromptCache

from .spec import PREFIX, SECONDS, wrong_with
from .watch import Marks, Watched, make_client, text_of


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be asked again.

    Attributes:
        must: prompts whose answers have to be in the file already.
        phase: what the server is told.
    """

    name: str
    path: str
    marks: str
    port: int
    names: list[str]
    must: list[str] = []
    phase: str = "3"
    single_flight: bool = False
    warm: bool = False
    seed: int = 0


class Found(msgspec.Struct, kw_only=True):
    """What came of it.

    Attributes:
        lost: prompts of ``must`` that were not in the file.
        wrong: what is wrong with the responses.
    """

    name: str
    lost: list[str] = []
    wrong: str = ""
    seconds: float = 0.0


def ask(again: Again) -> Found:
    began = time.monotonic()
    found = Found(name=again.name)
    start = PREFIX if again.warm else Conversation()
    marks = Marks(again.marks)
    with SqliteCache(again.path) as cache:
        found.lost = [name for name in again.must if cache.get(start.user(text_of(name))) is None]
        transport = Watched(marks, phase=again.phase, seed=again.seed)
        with make_client(again.port, transport, cache=cache, single_flight=again.single_flight) as client:
            pattern = {"cache": PromptCache("system_and_tools")} if again.warm else {}
            prompts = [start.user(text_of(name)) for name in again.names]
            found.wrong = wrong_with(client.process_prompts_sync(prompts, show_progress=False, **pattern), again.names)
    marks.close()
    found.seconds = time.monotonic() - began
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        sys.stdout.write(msgspec.json.encode(ask(msgspec.json.decode(line, type=Again))).decode() + "\n")
        sys.stdout.flush()
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
