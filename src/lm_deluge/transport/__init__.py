"""HTTP, and nothing else: the one place of the package that opens connections.

:class:`Transport` is what the engine needs of an HTTP client. :class:`AsyncioTransport` is the one it uses, and
:class:`AiohttpTransport` another; :class:`MockTransport` answers from a function, for tests.
"""

from lm_deluge.transport._aiohttp import AiohttpTransport
from lm_deluge.transport._asyncio import AsyncioTransport
from lm_deluge.transport._protocol import StreamedResponse, Transport
from lm_deluge.transport.mock import MockTransport

__all__ = ["AiohttpTransport", "AsyncioTransport", "MockTransport", "StreamedResponse", "Transport"]
