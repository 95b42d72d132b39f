"""Who may ask: requests for this server by one of its own names, from its own page, and with its token if it has one.

A page of elsewhere whose name was made to lead to this machine (DNS rebinding) still sends its own name as `Host`; one
that sends a request across sites is named in `Origin`. Ports are not compared with the server's, so that a forwarded
port works; a page of the same machine but another port has another `Origin`.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence

from .refusal import Refusal

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OUTSIDE = ("203.0.113.1", 9)  # an address for documentation (RFC 5737): to it a route is asked for, and nothing sent


class Gate:
    """What is checked of every request.

    names: by which the server may be called, in lower case. addresses: whether every IP address is such a name, which
    is safe because no name leads there. token: what a request must show, if there is one.
    """

    def __init__(self, *, names: Sequence[str], addresses: bool, token: str | None) -> None:
        self._names, self._addresses = frozenset(names), addresses
        self.token = token

    @classmethod
    def of(cls, host: str) -> Gate:
        """The gate of a server that listens at an address or name: without token only if that is this machine's."""
        host = host.lower()
        if is_loopback(host):
            return cls(names=(*_LOOPBACK, host), addresses=False, token=None)
        names = (*_LOOPBACK, host, socket.gethostname().lower())
        return cls(names=names, addresses=_is_any(host), token=secrets.token_urlsafe(24))

    def check_host(self, hosts: Sequence[str]) -> None:
        """hosts: the values of the `Host` headers. Raises Refusal unless it is one that is served here."""
        if len(hosts) != 1:
            raise Refusal(400, "a request needs one Host header")
        name = _name(hosts[0])
        if name not in self._names and not (self._addresses and _is_address(name)):
            raise Refusal(421, f"Host: {hosts[0]!r} is not served here; use the address that `vfmerge demo` printed")

    def check_origin(self, origins: Sequence[str], *, host: str) -> None:
        """Raises Refusal for what another site's page sends. A client that is no browser names no origin."""
        if any(origin.lower() != f"http://{host.lower()}" for origin in origins):
            raise Refusal(403, f"Origin: {origins[0]!r} is another site; use the page of this server")

    def check_token(self, shown: str | None) -> None:
        """Raises Refusal unless the token is right, or none is needed."""
        if self.token is None:
            return
        if shown is None or not hmac.compare_digest(shown.encode("utf-8", "replace"), self.token.encode()):
            raise Refusal(403, "the token is missing or wrong; use the whole address that `vfmerge demo` printed")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def address(host: str, port: int, *, token: str | None) -> str:
    """What to type into a browser."""
    name = _reachable() if _is_any(host) else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def _reachable() -> str:
    """An address of this machine that others may reach, or its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_OUTSIDE)
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def _name(host: str) -> str:
    """The name or address in a `Host` header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_any(host: str) -> bool:
    """Whether this stands for every address of the machine."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified
