"""The conformance suite of transports, for those shipped here and for yours. Needs ``pytest``."""

from lm_deluge._optional import require

require("pytest", extra="testing", purpose="TransportConformance")

from lm_deluge.testing._transport_answers import AnswerChecks  # noqa: E402 - after the message that says what is missing
from lm_deluge.testing._transport_failures import FailureChecks  # noqa: E402
from lm_deluge.testing._transport_lives import LifeChecks  # noqa: E402
from lm_deluge.testing._transport_loops import LoopChecks  # noqa: E402
from lm_deluge.testing._transport_networks import NetworkChecks  # noqa: E402
from lm_deluge.testing._transport_streams import StreamChecks  # noqa: E402

__all__ = ["TransportConformance"]


class TransportConformance(AnswerChecks, StreamChecks, FailureChecks, LifeChecks, LoopChecks, NetworkChecks):
    """Everything that ``lm_deluge.transport.Transport`` promises, as tests. Subclass it in a test module::

        from lm_deluge.testing import TransportConformance


        class TestMyTransport(TransportConformance):
            takes = frozenset({"max_body_bytes"})

            def make(self, **settings):
                return MyTransport(**settings)

    ``make`` makes a transport. Each check talks to a peer on the loopback interface, on asyncio's event loop and on
    uvloop's, where that is installed.

    Override ``says(error, pattern)`` to compare messages: it is called with an exception and a regular expression for
    what the transports shipped here say in its place. By default any words will do, as long as they repeat nothing of
    the request.

    Attributes:
        takes: the settings that ``make`` may be given, all by default. Checks that need another one are skipped.
            ``ca_file``: a PEM file to trust besides the system's certificates; ``connect_timeout``: seconds for
            connecting; ``max_body_bytes``: the largest body, decoded; ``proxy``: the URL of a proxy for all requests;
            ``trust_env``: False leaves the environment's proxies unread. A transport that takes ``trust_env`` reads
            them otherwise.
        loops: the event loops to run on: ``"asyncio"``, ``"uvloop"``.
        keeps_pieces: whether a stream hands over what came before it failed.
    """
