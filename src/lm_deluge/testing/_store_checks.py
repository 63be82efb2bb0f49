"""What the checks of the conformance suite share: opening stores, entries to put into them, saying what is wrong."""

import contextlib
import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings

from lm_deluge.cache.entry import Blob, Entry, Facts
from lm_deluge.cache.stores import Store
from lm_deluge.testing._expect import expect

__all__ = ["NOW", "Checks", "blob_name", "entry", "key_of"]

T = TypeVar("T")

NOW = 1_700_000_000.0
_CHILD_SECONDS = 60.0


class Checks:
    """How a subclass opens its store, and what may be expected of it. See ``StoreConformance``."""

    reopens: ClassVar[bool] = True
    shares: ClassVar[bool] = True
    own_clock: ClassVar[bool] = False
    reclaims_blobs: ClassVar[bool] = True
    examples: ClassVar[int] = 40

    def make(self, path: Path) -> Store:
        """A store over the data that belong to a directory. The directory exists.

        With the same path the same data, with another path other data.
        """
        raise NotImplementedError(f"{type(self).__name__} needs make(self, path), which opens the store under test.")

    def opening(self, path: Path) -> str | None:
        """Python code that opens the same data in another process and binds ``store``; None if that cannot be."""
        return None

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[Store]:
        """A store that is closed at the end."""
        store = self.make(path)
        try:
            yield store
        finally:
            store.close()

    @contextlib.contextmanager
    def capable(self, path: Path, capability: Callable[..., T]) -> Iterator[tuple[Store, T]]:
        """A store, twice: as what every store is, and as what it can do besides. Skips the check if it cannot.

        The capability is one of the protocols, which type checkers do not take for a ``type[T]``.
        """
        protocol = cast("type[T]", capability)
        with self.opened(path) as store:
            if not isinstance(store, protocol):
                pytest.skip(f"{type(store).__name__} is no {protocol.__name__}")
            yield store, store

    def needs_reopening(self) -> None:
        """Skip the check if data end with their store."""
        if not self.reopens:
            pytest.skip("reopens is False: what this store holds ends with it")

    @property
    def settings(self) -> settings:
        """For Hypothesis: no time limit, for a disk may be slow, and the same examples in each run."""
        return settings(
            max_examples=self.examples,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )

    @staticmethod
    def directories(path: Path) -> Iterator[Path]:
        """New directories, for one example each."""
        for number in itertools.count():
            directory = path / str(number)
            directory.mkdir()
            yield directory

    def start_child(self, path: Path, *command: object) -> "subprocess.Popen[str]":
        """Another process with the store open, doing a command of ``_store_child``. Skips the check if none can."""
        opening = self.opening(path)
        if opening is None:
            pytest.skip("opening() gives no code, so this store is not tested from another process")
        code = f"{opening}\nfrom lm_deluge.testing._store_child import main\nmain(store)"
        return subprocess.Popen(  # noqa: S603 - the interpreter that runs here, with code of the suite's user
            [sys.executable, "-c", code, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    @staticmethod
    def finish(child: "subprocess.Popen[str]") -> None:
        """Wait for a child that has nothing more to be told."""
        try:
            child.communicate(timeout=_CHILD_SECONDS)
        finally:
            child.kill()
        expect(child.returncode, 0, "the exit code of the other process, whose error is above")


def key_of(name: object) -> bytes:
    """A key, always the same for the same name."""
    return hashlib.sha256(str(name).encode()).digest()


def blob_name(data: bytes) -> bytes:
    """The name of a blob."""
    return hashlib.sha256(data).digest()


def entry(
    name: object,
    value: bytes = b"value",
    *,
    blobs: Sequence[Blob] = (),
    created: float = NOW,
    namespace: str = "default",
) -> Entry:
    """An entry with everything that one can have. The first of ``blobs`` is what its request refers to."""
    return Entry(
        key=name if isinstance(name, bytes) else key_of(name),
        value=value,
        namespace=namespace,
        request=b"request of " + value[:100],
        refers=tuple(blob_name(blob.data) for blob in blobs[:1]),
        blobs={blob_name(blob.data): blob for blob in blobs},
        facts=Facts(
            created=created,
            asked="alias",
            model="model-2025-01-01",
            finish_reason="stop",
            input_tokens=11,
            output_tokens=7,
            cache_read_tokens=5,
            cache_write_tokens=0,
            cost=0.25,
            run=2**62 + 1,
        ),
    )
