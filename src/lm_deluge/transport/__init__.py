"""HTTP, and nothing else: the one place of the package that opens connections.

:class:`Transport` is what the engine needs of an HTTP client. :class:`PyreqwestTransport` is the one it uses;
:class:`MockTransport` answers from a function, for tests.
"""

from ._protocol import StreamedResponse, Transport
from ._pyreqwest import PyreqwestTransport
from .mock import MockTransport

__all__ = ["MockTransport", "PyreqwestTransport", "StreamedResponse", "Transport"]
