"""The provider emulator as users hold it: a server in a background thread, and ``serve`` for the command line."""

from collections.abc import Callable, Collection, Iterable

from lm_deluge._clock import Clock
from lm_deluge.errors import ConfigError
from lm_deluge.testing import dataset
from lm_deluge.testing.app import EmulatorApp
from lm_deluge.testing.bill import Bill, make_bill
from lm_deluge.testing.faults import Fault
from lm_deluge.testing.gate import Gate
from lm_deluge.testing.server import BackgroundServer, build_server, listen
from lm_deluge.testing.stats import Stats
from lm_deluge.testing.values import ParsedRequest, RecordedRequest, Responder

__all__ = ["Emulator", "serve"]


class Emulator:
    """A server that speaks the providers' wire formats as strictly as the providers do, without a model.

    It answers Anthropic Messages (``/v1/messages``, ``/v1/messages/count_tokens``) and OpenAI Chat Completions
    (``/v1/chat/completions``), plain and streamed, refuses what the providers refuse in their own words, and simulates
    their prompt caches. Answers are real text, the same for the same request.

    ::

        with Emulator() as emulator:
            client = openai.OpenAI(base_url=emulator.openai_base_url, api_key="any")
            ...
            assert emulator.calls == 1

    Any credential that is not empty is accepted, and each has a prompt cache of its own.

    It keeps accounts apart from the client's own. Each generation answer, plain or streamed, says what the request did
    to the prompt cache, in tokens that add up to the whole prompt::

        x-emulator-cache: uncached=40, read=20000, write-5m=0, write-1h=0

    All four are always there, in this order (a dictionary of RFC 9651); what OpenAI writes counts as ``write-5m``.
    ``requests`` has the same for each request together with its cost, ``bill`` what all of them cost. For other
    processes, ``GET /_emulator/stats`` gives the counters of ``stats`` and, under ``bill``, the bill as JSON, and
    ``POST /_emulator/reset`` starts from scratch; neither counts as a call. Web pages of others get 403 everywhere, and
    so do requests for these two whose ``Host`` is no address, not ``localhost`` and not ``host``.

    Args:
        host: the interface to listen on.
        port: the port; 0 picks a free one.
        latency: seconds until an answer begins, or a function of the request. Measured on ``clock``.
        responder: gives the answers; None for the built-in ones.
        faults: called with each valid request; a ``Fault`` it returns replaces the answer. ``script`` goes first.
        models: the model names that exist, others give 404; None accepts any name.
        clock: the time that cache entries and latency live by; None for the machine's.
        record: whether to keep requests in ``requests``. Switch it off for benchmarks.
        record_limit: how many requests to keep; the oldest are dropped.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float | Callable[[ParsedRequest], float] = 0.0,
        responder: Responder | None = None,
        faults: Callable[[ParsedRequest], Fault | None] | None = None,
        models: Collection[str] | None = None,
        clock: Clock | None = None,
        record: bool = True,
        record_limit: int = 10_000,
    ) -> None:
        self._host = host
        self._port = port
        self._app = EmulatorApp(
            latency=latency,
            responder=responder,
            faults=faults,
            models=models,
            clock=clock,
            record=record,
            record_limit=record_limit,
            hosts=(host,),
        )
        self._server: BackgroundServer | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Emulator":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, and serve in a background thread. Returns when connections are accepted.

        Raises:
            ConfigError: it is running already, or the address cannot be used.
            ImportError: the ``server`` extra is not installed; the message holds the ``pip`` command.
        """
        if self._server is not None:
            raise ConfigError("this Emulator is running already; stop it first, or make another one")
        self._server = BackgroundServer(self._app, listen(self._host, self._port))
        self._server.start()

    def stop(self) -> None:
        """Stop serving. Answers that are held or hanging are abandoned. Does nothing when it is not running."""
        server, self._server = self._server, None
        if server is not None:
            if self._app.gate is not None:
                self._app.gate.open()
            server.stop()

    @property
    def app(self) -> EmulatorApp:
        """The ASGI application, for a server of your own."""
        return self._app

    @property
    def url(self) -> str:
        """Such as ``"http://127.0.0.1:41233"``.

        Raises:
            ConfigError: the emulator is not running.
        """
        if self._server is None:
            raise ConfigError("the Emulator is not running; use it in a `with` block or call start()")
        host, port = self._server.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def openai_base_url(self) -> str:
        """What the OpenAI SDK takes as ``base_url``."""
        return f"{self.url}/v1"

    @property
    def anthropic_base_url(self) -> str:
        """What the Anthropic SDK takes as ``base_url``."""
        return self.url

    # -- scripting -------------------------------------------------------------------------------------------------

    def script(self, faults: Iterable[Fault | None]) -> None:
        """Queue faults: each valid generation request consumes one, None lets it through.

        A refused request consumes none. When the queue is empty, answers are normal again.
        """
        self._app.script.extend(faults)

    def hold(self) -> Gate:
        """Hold answers back from now on, until the returned gate lets them go."""
        self._app.gate = Gate()
        return self._app.gate

    def reset(self) -> None:
        """Forget counters, records, scripted faults and the simulated prompt caches."""
        self._app.reset()

    # -- counting --------------------------------------------------------------------------------------------------

    @property
    def calls(self) -> int:
        """Generation requests received, refused ones included."""
        return self._app.stats.calls

    @property
    def max_in_flight(self) -> int:
        """The most generation requests that were being answered at once.

        Without ``latency`` or ``hold`` an answer takes no time, and this stays at 1 at any concurrency.
        """
        return self._app.stats.max_in_flight

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests answered so far, in the order in which their answers began."""
        return list(self._app.records)

    def stats(self) -> Stats:
        """A copy of all counters."""
        return self._app.snapshot()

    def bill(self) -> Bill:
        """What the provider charges for all answers since the start or the last reset, whether recorded or not.

        Prices come from ``genai-prices``, at today's date. The first call imports it, which takes a third of a second.
        """
        return make_bill(self._app.charges.copy())


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    latency: float | Callable[[ParsedRequest], float] = 0.0,
    responder: Responder | None = None,
    faults: Callable[[ParsedRequest], Fault | None] | None = None,
    models: Collection[str] | None = None,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve in this thread until interrupted (Ctrl-C, SIGTERM). Requests are counted but not kept.

    Args:
        host, port: where to listen; port 0 picks a free one.
        latency, responder, faults, models: as for ``Emulator``.
        started: called with the URL once connections are accepted.

    Raises:
        ConfigError: the address cannot be used.
        ImportError: the ``server`` extra is not installed.
    """
    app = EmulatorApp(latency=latency, responder=responder, faults=faults, models=models, record=False, hosts=(host,))
    dataset.load()
    listener = listen(host, port)
    server = build_server(app)
    if started is not None:
        started(f"http://{host}:{listener.getsockname()[1]}")
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return  # the server shut down in order before it passed the signal on
    finally:
        listener.close()
