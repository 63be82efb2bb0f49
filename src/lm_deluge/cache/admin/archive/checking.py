"""Checks of a bundle: whether a store could have held what a line says."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from lm_deluge.cache.admin.archive.bundle import EntryLine
from lm_deluge.cache.codec import UNKNOWN
from lm_deluge.cache.entry import Facts
from lm_deluge.cache.runs import Run
from lm_deluge.canonical import KEY_SIZES
from lm_deluge.errors import DamagedEntryError
from lm_deluge.response import APIResponse

__all__ = ["check_depth", "fingerprint_in", "key_in", "response_in", "sound_facts", "sound_run", "sound_time"]

_DEPTH = 100  # the limit for prompts too; far below Python's recursion limit
_MOST = 2**63 - 1  # the largest integer of SQLite
_LATEST = 253_402_300_800.0  # the year 10000, where dates end

_exact_decoder = msgspec.msgpack.Decoder(APIResponse)
_json = msgspec.json.Encoder()


def key_in(line: EntryLine) -> bytes:
    """The key in an entry's line.

    Raises:
        DamagedEntryError: it is none.
    """
    return _hex(line.key, KEY_SIZES, "its key is not 96 hexadecimal digits, or 64")


def fingerprint_in(line: EntryLine) -> bytes:
    """The fingerprint in an entry's line.

    Raises:
        DamagedEntryError: it is none.
    """
    if not line.fingerprint:
        return UNKNOWN
    return _hex(line.fingerprint, [len(UNKNOWN)], "its fingerprint is not 16 hexadecimal digits")


def response_in(line: EntryLine) -> APIResponse:
    """The response of an entry's line, exactly as it was stored.

    Raises:
        DamagedEntryError: it is not one that a cache could have stored.
    """
    response = line.response
    if line.exact is not None:
        try:
            response = _exact_decoder.decode(line.exact)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DamagedEntryError(f"its response does not decode: {error}") from error
        if _json.encode(response) != _json.encode(line.response):
            raise DamagedEntryError("its response is not the one that it shows")
    if response.content is not None and not response.content.is_loaded:
        # A path would make the next user of the conversation send a file of their own.
        raise DamagedEntryError("its response has an image or a file without its content")
    check_depth(response.logprobs)
    body = line.body_base64 if line.body is None else line.body.encode()
    return msgspec.structs.replace(response, raw_body=body)


def check_depth(value: object, left: int = _DEPTH) -> None:
    """Check that plain data are not nested too deeply.

    Raises:
        DamagedEntryError: they are.
    """
    if not left:
        raise DamagedEntryError(f"it is nested more than {_DEPTH} levels deep")
    if isinstance(value, Mapping):
        for item in value.values():
            check_depth(item, left - 1)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for item in value:
            check_depth(item, left - 1)


def sound_facts(facts: Facts) -> Facts:
    """Facts that every store can keep.

    Raises:
        DamagedEntryError: a number is out of range.
    """
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "run"):
        if not 0 <= (getattr(facts, name) or 0) <= _MOST:
            raise DamagedEntryError(f"its {name} is {getattr(facts, name)}")
    sound_time(facts.created)
    return facts


def sound_run(run: Run) -> Run:
    """A run that every store can keep, without a report, and noted as imported.

    Raises:
        DamagedEntryError: a number is out of range.
    """
    if not 0 < run.id <= _MOST:
        raise DamagedEntryError(f"its id is {run.id}")
    sound_time(run.started)
    return msgspec.structs.replace(run, report=None, imported=True)


def sound_time(seconds: float) -> None:
    """Check that a time is within the calendar.

    Raises:
        DamagedEntryError: it is not.
    """
    if not 0 <= seconds < _LATEST:
        raise DamagedEntryError(f"it is said to be of second {seconds}")


def _hex(text: str, sizes: Collection[int], otherwise: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) not in sizes or found.hex() != text:
        raise DamagedEntryError(otherwise)
    return found
