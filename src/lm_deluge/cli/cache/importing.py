"""What ``deluge cache import`` does: it tells a bundle from a cache of PyPI ``lm-deluge``, and reads either."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from lm_deluge.cache.archive import ImportReport, is_bundle, load
from lm_deluge.cache.archive.incoming import OnConflict
from lm_deluge.cache.archive.reference import ReferenceReport, is_reference, load_reference
from lm_deluge.cli.stores import kind_of, open_store
from lm_deluge.errors import ConfigError

if TYPE_CHECKING:
    from lm_deluge.cache.stores import Store

__all__ = ["import_into"]


def import_into(
    where: str, file: Path, *, on_conflict: OnConflict, namespace: str | None, create: bool, dry_run: bool
) -> tuple[ImportReport | ReferenceReport, bool]:
    """The report, and whether the file was read to its end without damage.

    Raises:
        ConfigError: the file is neither, or there is no cache to put it into.
        OSError: the file cannot be read.
    """
    reference = not is_bundle(file) and is_reference(file)
    if not reference and not is_bundle(file):
        if not file.is_dir():
            file.open("rb").close()  # says what is wrong, if it is missing or may not be read
        raise ConfigError(
            f"{file} is neither what `deluge cache export` writes nor a cache of PyPI lm-deluge. "
            "From another cache of this package, export first."
        )
    with closing(_open(where, create=create, dry_run=dry_run)) as store:
        if reference:
            found = load_reference(store, file, on_conflict=on_conflict, namespace=namespace, dry_run=dry_run)
            return found, found.stopped is None
        report = load(store, file, on_conflict=on_conflict, namespace=namespace, dry_run=dry_run)
        return report, report.is_complete


def _open(where: str, *, create: bool, dry_run: bool) -> "Store":
    if create and kind_of(where) == "sqlite" and not Path(where).expanduser().exists():
        if dry_run:
            from lm_deluge.cache.stores.memory import MemoryStore

            return MemoryStore()
        from lm_deluge.cache.stores.sqlite import SqliteStore

        return SqliteStore(where)
    return open_store(where, writing=not dry_run)
