"""One request's life: local cache, limits, build, send, parse, store."""

from lm_deluge.engine.engine import Engine
from lm_deluge.engine.run import Run
from lm_deluge.engine.settings import CacheMode, OnMiss, RunOptions, Settings

__all__ = ["CacheMode", "Engine", "OnMiss", "Run", "RunOptions", "Settings"]
