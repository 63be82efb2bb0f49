"""Wire formats as pure functions over frozen values: a request becomes bytes, bytes become a reply. No I/O.

Each format is one object, ``WireFormat``, and ``wire_format(model)`` finds it. What all formats have in common is here:
``build`` writes a call, ``parse`` and ``StreamReader`` read what comes back.
"""

from lm_deluge.providers._breakpoints import BREAKPOINT_STYLES
from lm_deluge.providers._format import WireFormat, is_blank
from lm_deluge.providers._registry import FORMATS, wire_format
from lm_deluge.providers._values import Delta, Failure, Reply
from lm_deluge.providers.answer import parse
from lm_deluge.providers.call import build
from lm_deluge.providers.stream import StreamReader, as_whole

__all__ = [
    "BREAKPOINT_STYLES",
    "FORMATS",
    "Delta",
    "Failure",
    "Reply",
    "StreamReader",
    "WireFormat",
    "as_whole",
    "build",
    "is_blank",
    "parse",
    "wire_format",
]
