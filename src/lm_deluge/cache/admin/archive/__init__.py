"""Moving stored answers: choosing them, writing them to bundles, reading bundles, and giving entries new keys."""

from lm_deluge.cache.admin.archive.export import ExportReport, export
from lm_deluge.cache.admin.archive.load import ImportReport, load
from lm_deluge.cache.admin.archive.reading import is_bundle
from lm_deluge.cache.admin.archive.reference import ReferenceReport, is_reference, load_reference
from lm_deluge.cache.admin.archive.rekey import RekeyReport, rekey
from lm_deluge.cache.admin.filters import Filter, entries

__all__ = [
    "ExportReport",
    "Filter",
    "ImportReport",
    "ReferenceReport",
    "RekeyReport",
    "entries",
    "export",
    "is_bundle",
    "is_reference",
    "load",
    "load_reference",
    "rekey",
]
