"""Telling listeners what happens, without letting a broken one do harm."""

import logging
from collections.abc import Callable, Sequence

from lm_deluge.events import Event, Listener, RunFinished, RunReport

__all__ = ["to_all"]

_log = logging.getLogger("lm_deluge")


def to_all(listeners: Sequence[Listener], on_report: Callable[[RunReport], None]) -> Listener:
    """A listener that passes each event on to all of these; one that raises is logged and left out from then on.

    The report at the end goes to ``on_report`` first, which does not raise.
    """
    live = list(listeners)

    def emit(event: Event) -> None:
        if isinstance(event, RunFinished):
            on_report(event.report)
        for listen in live[:]:
            try:
                listen(event)
            except (KeyboardInterrupt, SystemExit):
                raise  # it ends the run, out of whose caller it comes
            except BaseException:  # noqa: BLE001 - a broken display must not cost answers that are paid for
                live.remove(listen)
                _log.exception("a listener raised on %s and is not called any more in this run", type(event).__name__)

    return emit
