"""What others do to a file of results while it is written."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lm_deluge.cli.outfile import OutFile
from lm_deluge.errors import ConfigError
from lm_deluge.testing import Emulator

from .conftest import Deluge, read_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "out.jsonl"


@pytest.fixture
def file(path: Path) -> Iterator[OutFile]:
    path.parent.mkdir()
    file = OutFile(path, "out.jsonl")
    file.write(b"1\n2\n")
    yield file
    file.close()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o022, 0])
def test_a_new_file_of_results_is_private(tmp_path: Path, umask: int) -> None:
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.touch()
    ours.chmod(0o640)
    link.symlink_to("target")
    before = os.umask(umask)
    try:
        for path in (tmp_path / "new", ours, link.resolve()):
            file = OutFile(path, str(path))
            file.replace([b"1\n"])
            file.close()
    finally:
        os.umask(before)
    assert (mode(tmp_path / "new"), mode(tmp_path / "target"), mode(ours)) == (0o600, 0o600, 0o640)


def test_what_was_removed_is_written_again(file: OutFile, path: Path) -> None:
    path.chmod(0o640)
    file.truncate(4)
    path.unlink()
    file.write(b"3\n")
    assert path.read_bytes() == b"1\n2\n3\n"
    assert file.notices == ["out.jsonl was removed during the run. It was written again, with all results."]
    assert not file.misplaced
    with pytest.raises(ConfigError, match="Another run"):
        OutFile(path, "out.jsonl")  # it is locked, too


def test_what_was_removed_after_the_last_line_is_written_again(file: OutFile, path: Path) -> None:
    path.unlink()
    file.look()
    assert path.read_bytes() == b"1\n2\n"


def by_rename(path: Path) -> None:
    (path.parent / "other").write_text("not ours\n")
    (path.parent / "other").replace(path)


def by_a_new_file(path: Path) -> None:
    path.unlink()
    path.write_text("not ours\n")


@pytest.mark.parametrize("replace", [by_rename, by_a_new_file])
def test_a_file_in_its_place_is_left_as_it_is(file: OutFile, path: Path, replace: Callable[[Path], None]) -> None:
    (path.parent / "out.rescued-1.jsonl").write_text("taken")
    replace(path)
    file.write(b"3\n")
    file.write(b"4\n")
    kept = path.parent / "out.rescued-2.jsonl"
    assert (path.read_text(), kept.read_bytes(), mode(kept)) == ("not ours\n", b"1\n2\n3\n4\n", 0o600)
    assert file.misplaced
    assert file.notices == [
        "out.jsonl was replaced by another file during the run. "
        f"All results are in {kept}; to continue, give that as --out."
    ]


def test_where_the_directory_is_gone_a_temporary_file_holds_it(
    file: OutFile, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    shutil.rmtree(path.parent)
    file.write(b"3\n")
    kept = list((tmp_path / "temporary").iterdir())
    assert [(each.read_bytes(), mode(each)) for each in kept] == [(b"1\n2\n3\n", 0o600)]
    assert str(kept[0]) in file.notices[0]
    assert file.misplaced


def test_a_file_that_is_cut_short_is_told(file: OutFile, path: Path) -> None:
    path.write_bytes(b"")
    file.write(b"3\n")
    assert path.read_bytes() == b"3\n"
    assert file.misplaced
    assert "cut short by another program during the run: 4 bytes" in file.notices[0]


def test_a_device_is_written_to_as_it_is() -> None:
    file = OutFile(Path(os.devnull), os.devnull)
    file.write(b"1\n")
    file.write(b"2\n")
    file.close()
    assert file.notices == []


def test_an_error_names_the_file() -> None:
    file = OutFile(Path("/dev/full"), "/dev/full")
    with pytest.raises(OSError, match=r"No space left.*/dev/full"):
        file.write(b"1\n")
    file.close()


@pytest.mark.parametrize(
    ("replace", "code", "said", "place"),
    [
        (Path.unlink, 0, "out.jsonl was removed during the run. It was written again", "out.jsonl"),
        (by_rename, 1, "out.jsonl was replaced by another file", "out.rescued-1.jsonl"),
    ],
)
def test_a_run_keeps_all_that_it_paid_for(
    replace: Callable[[Path], None],
    code: int,
    said: str,
    place: str,
    deluge: Deluge,
    emulator: Emulator,
    tmp_path: Path,
    write_prompts: Callable[..., Path],
) -> None:
    write_prompts(*map(str, range(12)))
    with emulator.hold() as gate:

        def meanwhile() -> None:
            for _ in range(2):
                gate.wait(3, timeout=60)
                gate.release(3)
            gate.wait(3, timeout=60)
            replace(tmp_path / "out.jsonl")
            gate.open()

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(meanwhile)
            ran = deluge.inside("prompts.jsonl", "-o", "out.jsonl", "--max-concurrent-requests", "3")
            done.result()
    assert ran.returncode == code
    assert said in ran.stderr
    assert sorted(row["index"] for row in read_rows(tmp_path / place)) == list(range(12))
    assert emulator.calls == 12
