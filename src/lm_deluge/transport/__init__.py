"""HTTP and nothing else. No other module of the package opens a connection.

:class:`Transport` is what the engine needs of an HTTP client. :class:`AsyncioTransport` is the default,
:class:`AiohttpTransport` an alternative; :func:`as_transport` finds them by name. :class:`MockTransport` answers from a
function, for tests. ``lm_deluge.testing.TransportConformance`` tests a transport of your own.
"""

from lm_deluge.transport._aiohttp import AiohttpTransport
from lm_deluge.transport._asyncio import AsyncioTransport
from lm_deluge.transport._named import as_transport
from lm_deluge.transport._protocol import StreamedResponse, Transport
from lm_deluge.transport.mock import MockTransport

__all__ = ["AiohttpTransport", "AsyncioTransport", "MockTransport", "StreamedResponse", "Transport", "as_transport"]
