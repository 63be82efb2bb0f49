"""What ``deluge cache import`` does: it tells what it is given, a bundle or a cache of some kind, and reads it."""

import io
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lm_deluge.cache.admin.archive import ImportReport, export, is_bundle, load
from lm_deluge.cache.admin.archive.incoming import OnConflict
from lm_deluge.cache.admin.archive.reference import ReferenceReport, is_reference, load_reference
from lm_deluge.cache.stores.registry import recognize
from lm_deluge.cli.stores import find, open_store
from lm_deluge.cli.terminal import say
from lm_deluge.errors import ConfigError
from lm_deluge.text import counted

if TYPE_CHECKING:
    from lm_deluge.cache.stores import Store

__all__ = ["import_into"]

_GZIP = b"\x1f\x8b"
_IN_MEMORY = 16 * 1024 * 1024


def import_into(
    where: str, file: str, *, on_conflict: OnConflict, namespace: str | None, create: bool, dry_run: bool
) -> tuple[ImportReport | ReferenceReport, bool]:
    """The report, and whether all was read without damage."""
    how: dict[str, Any] = {"on_conflict": on_conflict, "namespace": namespace, "dry_run": dry_run}
    path = Path(file).expanduser()
    if file == "-" or path.is_fifo():
        with _stream(file) as stream, _opened(where, create, dry_run) as store:
            return _load(store, _unpacked(stream), how)
    if is_bundle(path):
        with _opened(where, create, dry_run) as store:
            return _load(store, path, how)
    if _is_cache(file):
        return _merge(where, file, create=create, dry_run=dry_run, how=how)
    if is_reference(path):
        with _opened(where, create, dry_run) as store:
            found = load_reference(store, path, **how)
            return found, found.stopped is None
    if not path.is_dir():
        path.open("rb").close()  # says what is wrong, if it is missing or may not be read
    raise ConfigError(
        f"{file} is neither what `deluge cache export` writes nor a cache, of this package or of PyPI lm-deluge."
    )


def _load(store: "Store", source: Path | IO[bytes], how: dict[str, Any]) -> tuple[ImportReport, bool]:
    report = load(store, source, **how)
    return report, report.is_complete


def _merge(where: str, other: str, *, create: bool, dry_run: bool, how: dict[str, Any]) -> tuple[ImportReport, bool]:
    """Everything in another cache, by way of a bundle, so that every key is checked as for any other."""
    if _is_same(where, other):
        raise ConfigError("This is the cache itself; there is nothing to import.")
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as bundle:
        with closing(open_store(other)) as source:
            written = export(source, bundle.write)
        bundle.seek(0)
        with _opened(where, create, dry_run) as store:
            report, whole = _load(store, bundle, how)
    if written.damaged:
        damaged = counted(written.damaged, "damaged entry", "damaged entries")
        say(f"{damaged} of {other} left out; `deluge cache verify` names them.")
    return report, whole and not written.damaged


def _is_cache(name: str) -> bool:
    """Whether it is a store of this package. A file or a directory may be anybody's."""
    place = recognize(name)
    if place is None or not place.is_of_its_kind:
        return False
    return place.path is None or not is_reference(place.path)


def _is_same(where: str, other: str) -> bool:
    if where == other:
        return True
    paths = Path(where).expanduser(), Path(other).expanduser()
    return all(path.exists() for path in paths) and paths[0].samefile(paths[1])


def _stream(file: str) -> io.BufferedReader:
    # Standard input as a descriptor: closing this leaves it open.
    return open(sys.stdin.fileno() if file == "-" else Path(file).expanduser(), "rb", closefd=file != "-")


def _unpacked(stream: io.BufferedReader) -> io.BufferedReader:
    """A stream, which is not compressed: how far it would unpack cannot be told beforehand."""
    if stream.peek(len(_GZIP))[: len(_GZIP)] == _GZIP:
        raise ConfigError("What comes in is compressed. Unpack it on the way: gunzip -c FILE | deluge cache import … -")
    return stream


def _opened(where: str, create: bool, dry_run: bool) -> "closing[Store]":
    place = find(where)
    if create and place.is_missing:
        if dry_run:
            from lm_deluge.cache.stores.memory import MemoryStore

            return closing(MemoryStore())
        return closing(place.open())
    return closing(open_store(where, writing=not dry_run))
