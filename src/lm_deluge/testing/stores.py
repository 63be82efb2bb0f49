"""The conformance suite of cache stores, for those shipped here and for yours. Needs ``pytest`` and ``hypothesis``."""

from lm_deluge._optional import require

for _module in ("pytest", "hypothesis"):
    require(_module, extra="testing", purpose="StoreConformance")

from lm_deluge.testing._store_basics import BasicChecks  # noqa: E402 - after the message that says what is missing
from lm_deluge.testing._store_conversations import ConversationChecks  # noqa: E402
from lm_deluge.testing._store_leases import LeaseChecks  # noqa: E402
from lm_deluge.testing._store_scans import BoundChecks, JournalChecks, ScanChecks  # noqa: E402

__all__ = ["StoreConformance"]


class StoreConformance(BasicChecks, ConversationChecks, LeaseChecks, ScanChecks, BoundChecks, JournalChecks):
    """Everything that the protocols in ``lm_deluge.cache.stores`` promise, as tests. Subclass it in a test module::

        from lm_deluge.testing import StoreConformance


        class TestMyStore(StoreConformance):
            def make(self, path):
                return MyStore(path / "data")

    ``make`` opens a store over the data of a directory. What a store can do besides storing is seen from its methods:
    the checks of ``ConditionalStore``, ``ConversationStore``, ``LeaseStore``, ``ScanStore``, ``BoundedStore`` and
    ``JournalStore`` run for those that are one and are skipped for others.

    ``opening(path)`` may return Python code that opens the same data in another process and binds ``store``, such as
    ``f"from my_package import MyStore; store = MyStore({str(path / 'data')!r})"``. Without it the store is tested in
    one process only.

    Attributes:
        reopens: whether data outlive ``close``.
        shares: whether two stores may be open on the same data at once.
        own_clock: whether leases go by the store's own clock, and not by ``now``; the suite then waits for them.
        reclaims_blobs: whether blobs go when they are no longer referred to.
        examples: how many examples Hypothesis makes up for each property.
    """
