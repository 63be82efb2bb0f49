"""Findings that are known and open. An entry goes when its cause is mended; what still shows it is new again.

Each is a target (``"*"`` for all), a kind, the beginning of what is said of it, and why it is open.
"""

from .judge import Verdict

__all__ = ["OPEN", "why"]

OPEN: dict[tuple[str, str, str], str] = {
    ("errors", "leak", "the "): "a server repeats a credential escaped, in other case, or with status 200",
    ("logs", "wrong", "plain data have made a prompt that reads a local file"): "a log may name a path",
    ("logs", "foreign", "UnicodeEncodeError"): "half a surrogate in a log",
    ("logs", "foreign", "RecursionError"): "deep nesting",
    ("rows", "foreign", "RecursionError"): "deep nesting in a row",
    ("rows", "hang", ""): "deep nesting in a row",
    ("results", "foreign", "RecursionError"): "deep nesting in a file of results",
    ("bodies", "foreign", "RecursionError at response.py"): "raw_response of deep nesting",
    ("streams", "foreign", "RecursionError at response.py"): "raw_response of deep nesting",
    ("entries", "foreign", "RecursionError at response.py"): "raw_response of deep nesting",
    ("sqlite", "wrong", "a file outside the cache has changed"): "a journal names a file of the user's",
    ("sqlite", "hang", ""): "expressions of the file are evaluated",
    ("sqlite", "memory", ""): "expressions of the file are evaluated",
    ("leveldb", "wrong", "a file outside the cache has changed"): "links in a directory are followed",
    ("leveldb", "wrong", "files were made outside the cache"): "links in a directory are followed",
    (
        "leveldb",
        "foreign",
        "IOError at cache/archive/reference.py",
    ): "a directory of the reference that cannot be opened",
    ("leveldb", "hang", ""): "a FIFO in a directory is opened",
    ("redis", "foreign", ""): "the shape of replies is not checked",
    ("redis", "hang", ""): "the time limit is for each read",
    ("redis", "memory", ""): "a reply has no limit",
    ("redis", "wrong", "a server's words drive the terminal"): "errors of a server are passed on as they come",
}


def why(name: str, verdict: Verdict) -> str | None:
    """Why a finding of a target is open; None for one that is new."""
    for (target, kind, what), reason in OPEN.items():
        if target in (name, "*") and kind == verdict.kind and verdict.what.startswith(what):
            return reason
    return None
