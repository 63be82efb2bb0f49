"""``deluge`` with a transport that notes what has arrived: ``python -m tests.stress.told MARKS PHASE SEED ...``."""

import sys

from lm_deluge.cli import main
from lm_deluge.client import facade
from lm_deluge.transport import AsyncioTransport

from .watch import Marks, Watched

if __name__ == "__main__":
    marks, phase, seed = Marks(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    facade.as_transport = lambda *_: Watched(marks, phase=phase, seed=seed, inner=AsyncioTransport())
    sys.argv = ["deluge", *sys.argv[4:]]
    main()
