"""Response headers, read where they are asked for.

A provider sends twenty headers or more and few of them are looked at, so the native map is kept and a name is
converted when it is asked for.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyreqwest.http import HeaderMap

__all__ = ["ResponseHeaders"]


class ResponseHeaders(Mapping[str, str]):
    """A read-only view of one response's headers.

    Names are in lower case, and any case finds them. Of a repeated header the last value counts. A value that is not
    printable ASCII counts as absent: HTTP gives such bytes no meaning, and one of them must not cost an answer.
    """

    __slots__ = ("_native",)

    def __init__(self, native: "HeaderMap") -> None:
        self._native = native

    def __getitem__(self, name: str) -> str:
        try:
            values = self._native.getall(name)
        except ValueError:
            raise KeyError(name) from None
        if not values:
            raise KeyError(name)
        return values[-1]

    def __iter__(self) -> Iterator[str]:
        return (name for name in dict.fromkeys(self._native) if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"ResponseHeaders({dict(self)!r})"
