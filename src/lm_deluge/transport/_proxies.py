"""Which proxy a request goes through: the one given, or what the environment says."""

from collections.abc import Mapping

from lm_deluge.errors import ConfigError
from lm_deluge.transport._target import Origin, target_of

__all__ = ["Proxies", "Proxy", "checked_proxy"]


class Proxy:
    """A proxy to connect to. Its ``repr`` shows no credential.

    Args:
        url: ``http://[user:password@]host:port``, or https.
    """

    def __init__(self, url: str) -> None:
        target = target_of(url)
        self.url = url
        self.origin = target.origin
        self.lines = "" if target.authorization is None else f"proxy-authorization: {target.authorization}\r\n"

    def __repr__(self) -> str:
        return f"Proxy({self.origin.label!r})"


class Proxies:
    """Chooses.

    Args:
        given: the proxy for all requests, or None.
        environ: read for ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in both cases, where none is
            given. Empty for no proxy.
    """

    def __init__(self, given: Proxy | None, environ: Mapping[str, str]) -> None:
        self._given = given
        if given is None:
            excluded = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
            self._excluded = tuple(entry.strip().lower() for entry in excluded.split(",") if entry.strip())
            self._by_scheme = {scheme: _from_environment(scheme, environ) for scheme in ("http", "https")}

    def choose(self, origin: Origin) -> Proxy | None:
        """The proxy for a server, or None."""
        if self._given is not None:
            return self._given
        proxy = self._by_scheme[origin.scheme]
        if proxy is None or any(_matches(entry, origin.host, origin.port) for entry in self._excluded):
            return None
        return proxy


def checked_proxy(url: str) -> Proxy:
    """The proxy that the user gave.

    Raises:
        ConfigError: it is none. The message does not quote it.
    """
    try:
        return Proxy(url)
    except ValueError:
        pass  # what the original says may quote a password
    raise ConfigError("proxy has to be http://host:port or https://host:port, with user:password@ if need be.")


def _from_environment(scheme: str, environ: Mapping[str, str]) -> Proxy | None:
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    if scheme == "http" and "REQUEST_METHOD" in environ:
        names.remove("HTTP_PROXY")  # a CGI program gets that from the header "Proxy" of a request
    for name in names:
        url = environ.get(name, "").strip()
        if not url:
            continue
        try:
            return Proxy(url if "://" in url else f"http://{url}")
        except ValueError:
            pass
        raise ConfigError(f"{name} names no HTTP proxy. It has to be http://host:port; SOCKS is not supported.")
    return None


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of ``NO_PROXY`` covers a server: ``*``, a domain and all below it, an address, a network."""
    import ipaddress  # only where an exclusion is looked at

    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and ":" not in name:
        if int(number) != port:
            return False
        entry = name
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        entry = entry.removeprefix("*").lstrip(".")
        return bool(entry) and (host == entry or host.endswith(f".{entry}"))
