"""A batch does not hold up its event loop: whatever else runs there gets its turn, and nothing there waits for a disk.

Each measurement is a fresh process (``stalls.py``), because what comes late is part of it: imports, the first
connection, the first look at a price list. The provider emulator is a process of its own as well.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUSY = 0.15  # seconds of the process's own work without a turn; about ten times what it takes on two quiet cores
TRIES = 3  # a busy machine makes a figure worse and never better, so the best of some is what counts
PROGRAM = Path(__file__).with_name("stalls.py")


@pytest.fixture(scope="module")
def emulator_url() -> Iterator[str]:
    command = [sys.executable, "-m", "lm_deluge.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measured(task: str, directory: Path, url: str = "") -> dict[str, Any]:
    """The figures of one task, from a fresh process."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", PROGRAM, task, url, directory / "cache.db"],
        env={**os.environ, "OPENAI_API_KEY": "emulated"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    # A crash may come after all the output: stdout tells how far the program got, stderr where each thread was.
    assert done.returncode == 0, f"ended with {done.returncode}; printed {done.stdout!r}\n{done.stderr[-8000:]}"
    return json.loads(done.stdout)


def test_other_coroutines_get_their_turn(emulator_url, tmp_path):
    found = []
    for number in range(TRIES):
        place = tmp_path / str(number)
        place.mkdir()
        found.append(figures := measured("stalls", place, emulator_url))
        misses, hits = figures["misses"], figures["hits"]
        assert (misses["calls"], misses["hits"], misses["errors"]) == (2_000, 0, 0)
        assert (hits["calls"], hits["hits"], hits["errors"]) == (0, 20_000, 0)
        if all(work["busy"] < BUSY and work["turns"] > 10 for work in (misses, hits)):
            return
    raise AssertionError(found)


def test_nothing_on_the_loop_waits_for_a_disk_a_socket_or_a_lock(emulator_url, tmp_path):
    figures = measured("blocking", tmp_path, emulator_url)
    assert figures["caught"] == "time.sleep"  # the watch itself works
    assert figures["blocking"] == []
    assert (figures["misses"]["calls"], figures["hits"]["hits"]) == (300, 600)
    assert figures["misses"]["errors"] == figures["hits"]["errors"] == 0
    assert figures["misses"]["cache_failures"] == figures["hits"]["cache_failures"] == 0


def test_the_watch_tells_work_from_waiting(tmp_path):
    computing, sleeping = measured("computing", tmp_path), measured("sleeping", tmp_path)
    assert min(computing["late"], sleeping["late"]) > 1.9 * BUSY
    assert computing["busy"] > 1.9 * BUSY
    assert sleeping["busy"] < BUSY
