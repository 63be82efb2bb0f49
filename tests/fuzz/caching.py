"""What a run and the commands do with a cache that is somebody else's, and what must stay as it was beside it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lm_deluge.cache.admin.housekeeping import drift, stats, verify
from lm_deluge.cache.runs import Run
from lm_deluge.errors import LMDelugeError

from ..security import hostile

__all__ = ["Use", "guarded", "program"]


class Use(hostile.Use):
    """Does all of it, goes on after errors of our tree, and passes on all others.

    Args:
        path: the cache.
        is_sound: whether it was found sound before, so that what is stored has to be there.
    """

    def __init__(self, path: str, *, is_sound: bool = True) -> None:
        super().__init__(path)
        self._is_sound = is_sound

    def done(self, name: str, operation: Callable[[], Any]) -> Any:
        try:
            return operation()
        except LMDelugeError as error:
            self.raised[name] = f"{type(error).__name__}: {error}"
            return None

    def whole(self, cache: Any) -> None:
        """All that needs no file."""
        store = cache.backend
        self.run(cache)
        self.scan(store, "")
        for report in (stats, verify, drift):
            self.done(report.__name__, lambda report=report: str(report(store)))
        holder, keys = b"me", [bytes(32), cache.key(hostile.prompt(0))]
        self.done("acquire", lambda: store.acquire(keys, holder, now=1.0, seconds=1.0))
        self.done("renew", lambda: store.renew(keys, holder, now=1.0, seconds=1.0))
        self.done("release", lambda: store.release(keys, holder))
        self.done("record", lambda: store.record_run(Run(id=1, started=1.0)))
        self.done("delete", lambda: cache.delete(hostile.prompt(1)))

    def said(self) -> list[str]:
        """What came of it, once it is known to be right."""
        assert self.wrong == 0, "an answer is another prompt's"
        told = self.raised.get("store", "")
        assert not self._is_sound or told != "what was stored is not there", told
        return [f"{name}: {error}" for name, error in self.raised.items()]


@contextmanager
def guarded(tmp: Path, inside: str) -> Iterator[Path]:
    """A file of the user's own; nothing but what is below ``inside`` may change."""
    (victim := tmp / "victim").write_text("my own lines\n")
    yield victim
    after = victim.read_text(errors="replace") if victim.exists() else None
    assert after == "my own lines\n", "a file outside the cache has changed"
    names = {path.name for path in tmp.iterdir()}
    more = {name for name in names if name != "victim" and not name.startswith(inside)}
    assert not more, "files were made outside the cache"


def program(data: bytes) -> dict[str, Any]:
    """The faults that a case describes, in JSON; none where it describes none."""
    import msgspec

    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
