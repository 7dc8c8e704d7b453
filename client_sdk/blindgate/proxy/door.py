"""Who may ask the proxy.

What it is asked is in the clear, and what it answers costs its tenant something, so loopback alone is not enough:

1. it listens on loopback, in digits, unless somebody says that another address is safe (`check_address`);
2. every request but `/healthz` brings the token: other users of the machine, and pages in a browser, can reach the port, too;
3. the `Host` is one of this proxy's own: a page whose name was made to mean 127.0.0.1 (DNS rebinding) sends its own name;
4. a request with an `Origin` comes from a page, and is refused unless that one was allowed. No answer has a CORS header: a page
   of another origin cannot read one whatever it sends.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from blindgate.proxy.failures import refused
from blindgate_protocol.errors import InputError, PolicyError

TOKEN_CHARACTERS: Final = 16
_OWN: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_TOKEN: Final = re.compile(r"[!-~]+")


class Door:
    """Lets those in who have the token. Keeps its digest only."""

    def __init__(self, token: str, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        """Admit those with `token`.

        Args:
            token: at least `TOKEN_CHARACTERS` visible ASCII characters; raises `InputError` otherwise.
            hosts: names by which the proxy may be called, besides those of loopback; without a port.
            origins: of pages that may ask, as browsers write them: `https://page.example`.
        """
        if len(token) < TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
            message = f"the token is no use: expected at least {TOKEN_CHARACTERS} characters of ASCII, without a space"
            raise InputError(message)
        self._digest = sha256(token.encode()).digest()
        self._hosts = _OWN | {host.lower() for host in hosts}
        self._origins = frozenset(origins)

    def check_place(self, *, host: str | None, origin: str | None) -> None:
        """Refuse a request that was sent to another host, or by a page (rules 3 and 4). Raises `RefusedError`."""
        found = _HOST.fullmatch((host or "").lower())
        if found is None or found[1] not in self._hosts:
            message = "this proxy is not called by that host's name: use 127.0.0.1, or start it with --allow-host"
            raise refused(HTTPStatus.FORBIDDEN, "foreign-host", message)
        if origin is not None and origin not in self._origins:
            message = "a page of that origin may not ask this proxy, unless it was started with --allow-origin"
            raise refused(HTTPStatus.FORBIDDEN, "foreign-origin", message)

    def check_token(self, authorization: str | None) -> None:
        """Refuse a request without the token (rule 2). Raises `RefusedError`."""
        kind, _, given = (authorization or "").partition(" ")
        digest = sha256(given.strip().encode("utf-8", "replace")).digest()
        if kind.lower() != "bearer" or not hmac.compare_digest(digest, self._digest):
            message = (
                "no token of this proxy: give it as the API key (Authorization: Bearer …); it was printed at the start"
            )
            raise refused(HTTPStatus.UNAUTHORIZED, "invalid_api_key", message)


def check_address(listen: str, *, unsafe: bool) -> str:
    """The address to listen on (rule 1), in digits. Raises `PolicyError` for one that is not on loopback, unless `unsafe`."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if listen == "localhost" else listen)
    except ValueError as error:
        message = f"--listen: not an address in digits: {listen!r}; a name could be made to mean another machine"
        raise PolicyError(message) from error
    if not address.is_loopback and not unsafe:
        message = (
            f"--listen: {address} can be reached from other machines, and what this proxy is asked is not encrypted on its way to "
            "it. If you know that nobody else reads that network, say --unsafe-listen"
        )
        raise PolicyError(message)
    return str(address)
