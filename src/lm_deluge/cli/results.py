"""The output of ``deluge run``: JSON lines, one for each row. A later run continues where an interrupted one stopped.

Lines are appended in the order in which answers arrive and are complete when they are written, so a run that is killed
leaves at most one torn line, the last. A later run drops that line and the lines of errors, and asks what is missing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from lm_deluge._json import JsonReader, NotJson
from lm_deluge._printable import printable_json
from lm_deluge.cli.outfile import OutFile
from lm_deluge.cli.rows import Row
from lm_deluge.errors import ConfigError
from lm_deluge.response import APIResponse

__all__ = ["Results", "result_line"]


_START = b'{"index":'
"""How each line begins: a torn one is told from the end of another file by this."""


class _Known(msgspec.Struct):
    """What has to be read back of a line."""

    index: int
    key: str
    error: str | None
    sample: int = 0


class Results:
    """Where results go: a file that a later run continues, or a stream such as standard output.

    Use it as a context manager, or close it. About 200 bytes of memory are used for each answer that was there before.

    Attributes:
        answered: how many answers the file held when it was opened.
        dropped_errors: how many lines of errors were taken out, to be asked again.
        dropped_torn: whether a torn last line was taken out.
    """

    def __init__(self, target: OutFile | BinaryIO, settings: str, name: str = "standard output") -> None:
        self._target = target
        self._settings = settings
        self._name = name
        self._digests: dict[tuple[int, int], str] = {}  # of each row and sample that is answered
        self.dropped_errors = 0
        self.dropped_torn = False

    @classmethod
    def open(cls, path: Path, settings: str, *, overwrite: bool = False) -> "Results":
        """The results in a file, which is made if it is not there; ``overwrite`` drops what it holds.

        Raises:
            ConfigError: another run writes to the file, it holds something else, or results of other settings. It is
                left untouched.
            OSError: the file cannot be opened or written.
        """
        # A symbolic link stays one when the file behind it is replaced.
        file = OutFile(path.resolve(), str(path))
        results = cls(file, settings, str(path))
        try:
            if overwrite:
                file.truncate(0)
            else:
                results._resume(file)
        except BaseException:
            results.close()
            raise
        return results

    @property
    def answered(self) -> int:
        return len(self._digests)

    def rows_from(self, index: int) -> int:
        """How many rows of this index or a later one the file answered when it was opened."""
        return len({answered for answered, _ in self._digests if answered >= index})

    def missing(self, row: Row, samples: int = 1) -> list[int]:
        """Which of a row's samples had no answer when the file was opened."""
        missing = []
        for sample in range(samples):
            digest = self._digests.get((row.index, sample))
            if digest is None:
                missing.append(sample)
            elif digest != row.digest:
                raise ConfigError(
                    f"Line {row.line} of the prompts has changed since {self._name} was written, which answers another "
                    f"prompt as row {row.index}. Choose another --out, or start from scratch with --overwrite."
                )
        return missing

    def write(self, row: Row, line: dict[str, Any]) -> None:
        """Append a line. It is with the operating system when this returns, so a killed process loses nothing."""
        line["key"] = f"{self._settings}-{row.digest}"
        self._target.write(printable_json(msgspec.json.encode(line)) + b"\n")
        if not isinstance(self._target, OutFile):
            self._target.flush()

    def look(self) -> tuple[list[str], bool]:
        """What others did to the file while it was written, and whether results are now missing from it."""
        if not isinstance(self._target, OutFile):
            return [], False
        self._target.look()
        return self._target.notices, self._target.misplaced

    def close(self) -> None:
        """Release the file. A stream that was handed in stays open."""
        if isinstance(self._target, OutFile):
            self._target.close()

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resume(self, target: OutFile) -> None:
        """Learn what is answered, and take out what is not."""
        reader: JsonReader[_Known] = JsonReader(_Known)
        errors: list[int] = []
        end = 0
        with target.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and (line.startswith(_START) or _START.startswith(line)):
                    self.dropped_torn = True
                    break
                try:
                    known = reader.read(line)
                except NotJson as error:
                    raise ConfigError(
                        f"Line {number} of {self._name} is not a result of `deluge run` ({error}), so the file is left "
                        "as it is. Choose another --out, or replace it with --overwrite."
                    ) from error
                self._learn(known, number, errors)
                end += len(line)
        if errors:
            target.replace(_without_lines(target.path, set(errors), end))
            self.dropped_errors = len(errors)
        elif self.dropped_torn:
            target.truncate(end)

    def _learn(self, known: _Known, number: int, errors: list[int]) -> None:
        settings, _, digest = known.key.partition("-")
        if known.error is not None:
            errors.append(number)
        elif settings != self._settings:
            raise ConfigError(
                f"{self._name} holds answers of another model or of other settings (line {number}). "
                "Choose another --out, or start from scratch with --overwrite."
            )
        elif (known.index, known.sample) in self._digests:
            what = f"row {known.index}" + (f", sample {known.sample}," if known.sample else "")
            raise ConfigError(f"{self._name} answers {what} twice (line {number}). Remove one of the lines.")
        else:
            self._digests[known.index, known.sample] = digest


def result_line(
    row: Row, response: APIResponse, *, sample: int | None = None, with_prompt: bool = False
) -> dict[str, Any]:
    """The line of a row: its answer or error, with the number of the sample where a row has several.

    Always the same columns; ``thinking``, ``tool_calls`` and ``input`` (the row's own further fields) are there when
    they hold something.
    """
    usage = response.usage
    line: dict[str, Any] = {
        "index": row.index,
        **({} if sample is None else {"sample": sample}),
        "id": row.id,
        **({"prompt": row.prompt} if with_prompt else {}),
        "completion": response.completion,
        "error": (response.error_message or "unknown error") if response.is_error else None,
        "model": response.model_external or response.model_internal or None,
        "finish_reason": response.finish_reason,
        "usage": None if usage is None else msgspec.structs.asdict(usage),
        "cost": _dollars(response.cost),
        "cost_avoided": _dollars(response.cost_avoided),
        "local_cache_hit": response.local_cache_hit,
    }
    if response.thinking:
        line["thinking"] = response.thinking
    if response.tool_calls:
        line["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments} for call in response.tool_calls
        ]
    if row.extra:
        line["input"] = row.extra
    return line


def _dollars(value: float | None) -> float | None:
    """Without the noise of binary fractions; a picodollar is far below any price."""
    return None if value is None else round(float(value), 12)


def _without_lines(path: Path, numbers: set[int], end: int) -> Iterator[bytes]:
    """A file's lines up to ``end``, but for those of these numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if file.tell() > end:
                return
            if number not in numbers:
                yield line
