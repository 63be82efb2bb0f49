"""Import of a cache of the PyPI package ``lm-deluge``, as its version 0.0.138 writes it.

Such a cache keeps the prompt beside each answer, as JSON, so an answer can get the key that its prompt has here. But
not all prompts and answers are complete there: images, files and structured tool results are placeholders, thinking
has no signature, log probabilities are missing. Only complete entries are imported.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from lm_deluge._json import JsonReader, NotJson
from lm_deluge._optional import require
from lm_deluge._printable import shown
from lm_deluge.cache.admin.archive.incoming import Conflict, Incoming, OnConflict, told, told_conflicts
from lm_deluge.cache.admin.reports import Cut, check_namespace
from lm_deluge.cache.admission import policy
from lm_deluge.cache.assembly import entry_of
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.record import StoredRequest
from lm_deluge.cache.stores import Store
from lm_deluge.cache.stores.leveldb.files import copy_privately
from lm_deluge.errors import CacheFileError, PromptError
from lm_deluge.prompt import Conversation, Message, Part, Text, ToolCall, ToolResult
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

__all__ = ["ReferenceReport", "is_reference", "load_reference"]

_SQLITE = b"SQLite format 3\x00"
_WAL = 18  # where the header says so
_KEY_DIGITS = 16  # after the namespace and a colon
_TOOL_RESULT = "<Tool result ("  # and "2 blocks)>"

_FINISH_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "STOP": "stop",
        "completed": "stop",
        "max_tokens": "length",
        "MAX_TOKENS": "length",
        "tool_use": "tool_calls",
        "SAFETY": "content_filter",
    }
)


class ReferenceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of an import.

    Attributes:
        added: entries that were not there.
        identical: entries that were there with the same answer.
        conflicts: entries that were there with another answer.
        replaced: how many of those were replaced.
        left_out: how many entries were left out, by reason.
        stopped: why reading ended early; None if the cache was read to its end.
        dry_run: whether nothing was stored.
        first_conflicts: the first of them.
    """

    added: int = 0
    identical: int = 0
    conflicts: int = 0
    replaced: int = 0
    left_out: dict[str, int] = {}
    stopped: str | None = None
    dry_run: bool = False
    first_conflicts: tuple[Conflict, ...] = ()

    def __str__(self) -> str:
        said = [told(self), *told_conflicts(self)]
        if self.left_out:
            said.append(f"{sum(self.left_out.values()):,} left out:")
            said.extend(f"  {count:,}: {reason}" for reason, count in sorted(self.left_out.items()))
        if self.stopped is not None:
            said.append(f"Stopped early: {self.stopped}. What came before it is kept.")
        return shown("\n".join(said), lines=True)


def is_reference(path: str | Path) -> bool:
    """Whether a path is such a cache: a SQLite file with its table, or a LevelDB directory with keys like its own.

    Raises:
        ImportError: it is a LevelDB directory, and ``plyvel`` is missing.
    """
    try:
        with _opened(Path(path).expanduser()):
            return True
    except CacheFileError:
        return False


def load_reference(
    store: Store,
    path: str | Path,
    *,
    on_conflict: OnConflict = "keep",
    namespace: str | None = None,
    dry_run: bool = False,
) -> ReferenceReport:
    """Put the answers of such a cache into a store, for caches of ``scope="conversation"``.

    The file is not changed, and doing it again does no harm. Its entries do not say when they were stored, so that is
    not known here either: with a ``ttl`` or a ``max_age`` they are not served.

    Args:
        store: where they go.
        path: a SQLite file, or a LevelDB directory, which is copied first and needs ``plyvel``.
        on_conflict: as in ``load``.
        namespace: the ``cache_key`` for all of them; their own if not given.
        dry_run: only say what would happen.

    Raises:
        CacheFileError: the file cannot be read, or is no such cache.
        CacheError: the store cannot be asked or written. What was stored until then stays.
        ConfigError: an option has no meaning.
        ImportError: ``plyvel`` is missing.
    """
    check_namespace(namespace)
    incoming = Incoming(store, on_conflict=on_conflict, dry_run=dry_run)
    left_out: dict[str, int] = {}
    stopped: str | None = None
    path = Path(path).expanduser()
    try:
        with _opened(path) as rows:
            for key, value in rows:
                try:
                    incoming.add(*_entry(key, value, namespace))
                except _LeftOutError as error:
                    left_out[str(error)] = left_out.get(str(error), 0) + 1
    except Cut as cut:
        stopped = str(cut)
    try:
        incoming.flush()
    except Cut as cut:
        stopped = str(cut)
    return ReferenceReport(left_out=left_out, stopped=stopped, **incoming.counts())


class _LeftOutError(Exception):
    """An entry is not taken; the message says why."""


# The stored entries. An unknown field of a message could change what was asked, so such a message is not imported. An
# unknown field of an entry could not.


class _Text(msgspec.Struct, tag="text", forbid_unknown_fields=True):
    text: str


class _ToolCall(msgspec.Struct, tag="tool_call", forbid_unknown_fields=True):
    id: str
    name: str
    arguments: dict[str, Any]


class _ToolResult(msgspec.Struct, tag="tool_result", forbid_unknown_fields=True):
    tool_call_id: str
    result: str


class _Thinking(msgspec.Struct, tag="thinking"):
    pass


class _Image(msgspec.Struct, tag="image"):
    pass


class _File(msgspec.Struct, tag="file"):
    pass


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: list[_Text | _ToolCall | _ToolResult | _Thinking | _Image | _File]


class _Prompt(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[_Message]


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class _Params(msgspec.Struct):
    logprobs: bool | None = None


class _Answer(msgspec.Struct):
    model_internal: str
    prompt: _Prompt
    content: _Message | None = None
    model_external: str | None = None
    sampling_params: _Params | None = None
    status_code: int | None = None
    is_error: bool | None = None
    usage: _Usage | None = None
    finish_reason: str | None = None
    cost: float | None = None


_reader: JsonReader[_Answer] = JsonReader(_Answer)
_is_answer = policy("answers")


def _opened(path: Path) -> AbstractContextManager[Iterator[tuple[bytes, bytes]]]:
    return _directory(path) if path.is_dir() else _table(path)


@contextmanager
def _table(path: Path) -> Iterator[Iterator[tuple[bytes, bytes]]]:
    """The entries of a SQLite file."""
    import sqlite3  # takes longer to import than the rest of the package

    from lm_deluge.cache.stores.sqlite.connection import connect

    try:
        with path.open("rb") as file:
            begins = file.read(_WAL + 1)
    except OSError as error:
        raise CacheFileError(f"{path} cannot be read: {error.strerror or error}.") from error
    # A file in WAL mode, such as ours, is not theirs. Opening it would leave files beside it.
    if not begins.startswith(_SQLITE) or begins[_WAL:] == b"\x02":
        raise CacheFileError(f"{path} is no cache of lm-deluge.")
    try:
        with closing(connect(path.resolve(), "mode=ro")) as connection:
            columns = {(name, kind) for _, name, kind, *_ in connection.execute("PRAGMA table_info(cache)")}
            kind = connection.execute("SELECT type FROM sqlite_schema WHERE name = 'cache'").fetchone()
            if kind != (b"table",) or columns != {(b"key", b"TEXT"), (b"value", b"BLOB")}:
                raise CacheFileError(f"{path} is no cache of lm-deluge.")
            yield _rows(connection.execute("SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM cache"), sqlite3.Error)
    except sqlite3.Error as error:
        raise CacheFileError(f"{path} cannot be read: {error}.") from error


def _rows(found: Iterator[tuple[bytes, bytes]], damage: type[Exception]) -> Iterator[tuple[bytes, bytes]]:
    try:
        for key, value in found:
            yield key or b"", value or b""
    except damage as error:
        raise Cut(f"the file cannot be read further: {error}") from error


@contextmanager
def _directory(path: Path) -> Iterator[Iterator[tuple[bytes, bytes]]]:
    """The entries of a copy of a LevelDB directory: opening one changes it."""
    plyvel = require("plyvel", extra="leveldb", purpose="reading a LevelDB cache")
    if not (path / "CURRENT").is_file():
        raise CacheFileError(f"{path} is not a LevelDB directory.")
    with copy_privately(path) as copy:
        try:
            database = plyvel.DB(str(copy), create_if_missing=False)
        except plyvel.Error as error:
            raise CacheFileError(f"{path} cannot be read: {error}.") from error
        with closing(database):
            try:
                rows = iter(database)
                first = next(iter(database), None)
            except plyvel.Error as error:
                raise CacheFileError(f"{path} cannot be read: {error}.") from error
            if first is not None and not _namespace_in(first[0]):
                raise CacheFileError(f"{path} is no cache of lm-deluge.")  # one of ours, for example
            yield _rows(rows, plyvel.Error)


def _namespace_in(key: bytes) -> str:
    """The namespace in a key of such a cache; empty if the key has another form."""
    try:
        namespace, _, digits = key.decode().rpartition(":")
    except UnicodeDecodeError:
        return ""
    return namespace if len(digits) == _KEY_DIGITS else ""


def _entry(key: bytes, value: bytes, namespace: str | None) -> tuple[Entry, APIResponse]:
    try:
        own = _namespace_in(key)
        answer = _reader.read(value)
        if not own:
            raise _LeftOutError("the key has another form")
        request = StoredRequest(conversation=Conversation([_message(message) for message in answer.prompt.messages]))
        response = _response(answer)
    except (NotJson, msgspec.MsgspecError, PromptError, UnicodeError, RecursionError):
        # The message of the error would repeat what is in the file.
        raise _LeftOutError("the entry has another form") from None
    if not request.conversation.messages:
        raise _LeftOutError("the prompt has no messages")
    if not _is_answer(response):
        raise _LeftOutError("an error, a refusal, or an answer with nothing in it")
    namespace = namespace or own
    entry = entry_of(request.key(namespace), response, request.pack(), namespace=namespace)
    return entry, response


def _message(message: _Message) -> Message:
    return Message(message.role, [_part(part) for part in message.content])


def _part(part: object) -> Part:
    match part:
        case _Text(text):
            return Text(text)
        case _ToolCall(id, name, arguments):
            return ToolCall(id, name, arguments)
        case _ToolResult(tool_call_id, result):
            if result.startswith(_TOOL_RESULT):
                raise _LeftOutError("a tool's result is stored as a placeholder")
            return ToolResult(tool_call_id, result)
        case _Thinking():
            raise _LeftOutError("thinking is stored without its signature")
    raise _LeftOutError("an image or a file is stored as a placeholder")


def _response(answer: _Answer) -> APIResponse:
    if answer.sampling_params is not None and answer.sampling_params.logprobs:
        raise _LeftOutError("log probabilities were asked for, and are not stored")
    reason = answer.finish_reason
    return APIResponse(
        model_internal=answer.model_internal,
        model_external=answer.model_external,
        content=None if answer.content is None else _message(answer.content),
        usage=None if answer.usage is None else _usage(answer.usage, answer),
        cost=answer.cost,
        finish_reason=None if reason is None else _FINISH_REASONS.get(reason, reason),
        status_code=answer.status_code,
        is_error=bool(answer.is_error),
    )


def _usage(usage: _Usage, answer: _Answer) -> Usage:
    # Input tokens are stored as the provider counts them: Anthropic leaves cached ones out, all others count them in.
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    is_disjoint = any("claude" in (name or "") for name in (answer.model_internal, answer.model_external))
    return Usage(
        input_tokens=usage.input_tokens if is_disjoint else max(0, usage.input_tokens - cached),
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
