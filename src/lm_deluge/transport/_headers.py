"""Response headers, read where they are asked for.

A provider sends twenty headers or more and few of them are looked at, so the bytes are kept, and a value is
decoded when it is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, overload

__all__ = ["ResponseHeaders"]

T = TypeVar("T")


class ResponseHeaders(Mapping[str, str]):
    """A read-only view of one response's headers.

    Names are in lower case, and any case finds them. Of a repeated header the last value counts. A value that is not
    printable ASCII counts as absent: HTTP gives such bytes no meaning, and one of them must not cost an answer.

    Args:
        fields: names and values as they came.
    """

    __slots__ = ("_fields", "_values")

    def __init__(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._fields = fields
        self._values: dict[bytes, bytes] | None = None

    def __getitem__(self, name: str) -> str:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found

    @overload
    def get(self, key: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, key: str, default: str | T, /) -> str | T: ...
    def get(self, key: str, default: object = None, /) -> object:
        """The header's value, or ``default``. Most that are asked for are absent, so this raises nothing in between."""
        found = self._find(key)
        return default if found is None else found

    def _find(self, name: str) -> str | None:
        values = self._values
        if values is None:
            values = self._values = {name.lower(): value for name, value in self._fields}
        value = values.get(name.lower().encode("utf-8", "replace"))
        if value is None:
            return None
        text = value.strip(b" \t").decode("latin-1")
        shown = text.isascii() and (text.isprintable() or text.replace("\t", " ").isprintable())
        return text if shown else None

    def __iter__(self) -> Iterator[str]:
        names = dict.fromkeys(name.decode("latin-1").lower() for name, _ in self._fields)
        return (name for name in names if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"ResponseHeaders({dict(self)!r})"
