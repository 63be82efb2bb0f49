"""A run: its items are looked up, executed and settled."""

from lm_deluge.engine.estimate import estimate
from lm_deluge.engine.run import Run
from lm_deluge.engine.settings import CacheMode, OnMiss, RunOptions, Settings
from lm_deluge.engine.state import ClientState

__all__ = ["CacheMode", "ClientState", "OnMiss", "Run", "RunOptions", "Settings", "estimate"]
