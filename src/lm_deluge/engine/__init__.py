"""One request's life: local cache, limits, build, send, parse, store."""

from lm_deluge.engine.engine import Engine
from lm_deluge.engine.settings import RunOptions, Settings

__all__ = ["Engine", "RunOptions", "Settings"]
