"""Wire formats as pure functions over frozen values: a request becomes bytes, bytes become a reply. No I/O."""

from lm_deluge.providers._values import Delta, Failure, Reply
from lm_deluge.providers.dispatch import (
    build,
    can_prefill,
    dropped_parameters,
    parse,
    rate_limit_pause,
    supports_breakpoints,
    supports_prompt_caching,
)
from lm_deluge.providers.stream import StreamReader, as_whole

__all__ = [
    "Delta",
    "Failure",
    "Reply",
    "StreamReader",
    "as_whole",
    "build",
    "can_prefill",
    "dropped_parameters",
    "parse",
    "rate_limit_pause",
    "supports_breakpoints",
    "supports_prompt_caching",
]
