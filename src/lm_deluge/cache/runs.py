"""The account of a run, as it is kept beside the entries."""

import msgspec

from lm_deluge.events import RunReport

__all__ = ["Run"]


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a client, as a store keeps it.

    Attributes:
        id: a random positive number below 2**63; entries name the run that bought them by it.
        started: seconds since the Unix epoch.
        name: as the user named it; None if it has no name.
        tags: as the user tagged it.
        models: the client's models.
        report: what it did and cost; None while it is in progress, and for ever if it was killed or imported.
        imported: whether it came with entries from elsewhere: its account stayed where it was made.
    """

    id: int
    started: float
    name: str | None = None
    tags: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    report: RunReport | None = None
    imported: bool = False
