"""HTTP, and nothing else: the one place of the package that opens connections.

:class:`Transport` is what the engine needs of an HTTP client. :class:`PyreqwestTransport` is the one it uses;
:class:`MockTransport` answers from a function, for tests.
"""

from lm_deluge.transport._protocol import StreamedResponse, Transport
from lm_deluge.transport._pyreqwest import PyreqwestTransport
from lm_deluge.transport.mock import MockTransport

__all__ = ["MockTransport", "PyreqwestTransport", "StreamedResponse", "Transport"]
