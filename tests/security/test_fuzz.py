"""The fuzzer of ``tests/cache/fuzz_entry.py`` finds nothing in a while."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lm_deluge.cache.codec import encode
from lm_deluge.cache.record import pack_request
from lm_deluge.prompt import Conversation

from ..cache.archive.making import bundle, entry, filled
from ..cache.helpers import answer

PROGRAM = Path(__file__).parents[1] / "cache" / "fuzz_entry.py"
RUNS = 300_000


def write_corpus(directory: Path) -> None:
    """Good inputs to begin with."""
    directory.mkdir()
    long = Conversation.system("long " * 400).user("?", image=b"\x89PNG\r\n\x1a\n")
    packed = pack_request(long)
    lines = bundle(filled(entry(long, answer("4"))))
    inputs = [
        b"\x00" + msgspec.msgpack.encode(answer("4")),
        b"\x00" + encode(bytes(range(32)), answer("4")),
        b"\x01" + packed.data,
        b"\x01" + b"\xff\x00\xff".join([b"", *(blob.data for blob in packed.blobs.values())]),
        *(b"\x02" + blob.data for blob in packed.blobs.values()),
        b"\x03" + b"\n".join(line.rstrip(b"\n").partition(b'",')[2] for line in lines[1:]),
    ]
    for number, one in enumerate(inputs):
        (directory / str(number)).write_bytes(one)


@pytest.mark.long
def test_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed; install it with: pip install atheris")
    write_corpus(tmp_path / "corpus")
    limits = [f"-runs={RUNS}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *limits, str(tmp_path / "corpus")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=1_800,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    assert f"Done {RUNS} runs" in done.stderr
