"""Who may use the emulator from a browser: a page of its own, and no other.

A browser runs on the machine that the emulator listens on, and any page in it can send requests there. ``Origin`` says
which page does so, and ``Host`` which name it believes to talk to. A page whose name is made to point to this machine
(DNS rebinding) looks like one of the emulator's own but for that name. Programs send no ``Origin``.
"""

import ipaddress
from collections.abc import Collection, Iterable

__all__ = ["is_welcome"]


def is_welcome(headers: Iterable[tuple[bytes, bytes]], *, names: Collection[str] = (), control: bool) -> bool:
    """Whether a request is one of a program, or of a page of the emulator's own.

    Args:
        headers: of the request, with names in lower case.
        names: host names of the emulator, beside addresses and ``localhost``. In lower case.
        control: whether the request reads or changes the emulator's counters, so that its host has to be one of ours
            even where no page is said to send it: a page that has our address for its own may not say so. A model is
            asked under any name, as from another container.
    """
    origins, hosts = [], []
    for name, value in headers:
        if name == b"origin":
            origins.append(value)
        elif name == b"host":
            hosts.append(value)
    if not origins and not control:
        return True
    if len(hosts) != 1 or not _is_ours(host := _plain(hosts[0]), names):
        return False
    return not origins or {_plain(origin) for origin in origins} <= {f"http://{host}", f"https://{host}"}


def _plain(value: bytes) -> str:
    return value.decode("latin-1").strip().lower()


def _is_ours(host: str, names: Collection[str]) -> bool:
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not port.isdecimal():
        name = host
    name = name.removesuffix(".")
    if name == "localhost" or name in names:
        return True
    try:
        # No name can be made to point to this machine here: what the browser shows is the address itself.
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True
