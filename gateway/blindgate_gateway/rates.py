"""How much one caller may ask for, and how often one address may be wrong.

Two kinds of token buckets:

- each credential has one of `rate` requests a second, and may ask for `BURST_SECONDS` of them at once;
- each address has one of `failures` a minute: a wrong credential takes a token, and so does an enrolment that is refused. Who has
  none left is not looked at, so that guessing and flooding cost the database nothing.

Behind one address there may be a whole hospital. So a credential that was good before in this process is looked at all the same,
whatever its neighbours did; somebody who knows its id can have its secret checked as often as they like, and 256 bits stand that.

Buckets live in the memory of a process: N processes allow N times as much, which is what N processes can do. They hold the last
`MOST` callers; who was forgotten begins with a full bucket.
"""

import hashlib
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Final

from werkzeug.wrappers import Request

from blindgate_gateway.problems import refusal
from blindgate_gateway.settings import Settings
from blindgate_protocol.errors import BlindgateError, GatewayError
from blindgate_protocol.http_signatures import SIGNATURE_INPUT

BURST_SECONDS: Final = 10.0
MOST: Final = 10_000
_LONGEST_CHAIN: Final = 16
_SIGNER = re.compile(r'keyid="([^"]{1,100})"')


class Buckets:
    """Token buckets by name. `rate` tokens a second flow into each, and it holds `size`; a rate of 0 means no limit."""

    def __init__(self, *, rate: float, size: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._size, self._clock = rate, size, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str, tokens: float = 1.0) -> float:
        """Take a token, and give 0; where there is none, take nothing and give the seconds until there is.

        With `tokens=0` nothing is taken in either case.
        """
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._clock()
            level, then = self._levels.get(name, (self._size, now))
            level = min(self._size, level + (now - then) * self._rate)
            if level < 1.0:
                return (1.0 - level) / self._rate
            if tokens:
                self._levels[name] = (level - tokens, now)
                self._levels.move_to_end(name)
                if len(self._levels) > MOST:
                    self._levels.popitem(last=False)
        return 0.0


class Rates:
    """The buckets of this process."""

    def __init__(self, settings: Settings) -> None:
        self._credentials = Buckets(rate=settings.rate, size=settings.rate * BURST_SECONDS)
        self._failures = Buckets(rate=settings.failures / 60, size=settings.failures)
        self._proxies = settings.proxies
        self._good: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def watch(self, request: Request) -> Iterator[None]:
        """Find out here who calls. Refuses an address that was wrong too often, and notes when it is again.

        Raises `GatewayError` (429), and what the block raises.
        """
        address = self.address_of(request)
        wait = self._failures.take(address, tokens=0)
        if wait and claim_of(request) not in self._good:
            raise _limited("this address brought too many credentials that are none", wait)
        try:
            yield
        except BlindgateError as error:
            if not (isinstance(error, GatewayError) and error.status == HTTPStatus.SERVICE_UNAVAILABLE):
                self._failures.take(address)
            raise

    def charge(self, request: Request, credential: str) -> None:
        """Note that the credential which came with a request was good, and take a token of it. Raises `GatewayError` (429)."""
        with self._lock:
            self._good[claim_of(request)] = None
            self._good.move_to_end(claim_of(request))
            if len(self._good) > MOST:
                self._good.popitem(last=False)
        self.spend(credential)

    def spend(self, credential: str) -> None:
        """Take a token of a credential that was good before, and did not come along itself. Raises `GatewayError` (429)."""
        wait = self._credentials.take(credential)
        if wait:
            raise _limited("this credential asks for more than its share", wait)

    def address_of(self, request: Request) -> str:
        """Where a request comes from: the last address before proxies of the gateway's own. Of IPv6 the network of 64 bits."""
        address = request.remote_addr or ""
        chain = request.headers.get("X-Forwarded-For", "").split(",")[-_LONGEST_CHAIN:]
        while chain and self._is_proxy(address):
            address = chain.pop().strip()
        try:
            parsed = ip_address(address)
        except ValueError:
            return request.remote_addr or ""
        return str(IPv6Address(int(parsed) >> 64 << 64)) if parsed.version == 6 else str(parsed)  # noqa: PLR2004

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


def claim_of(request: Request) -> str:
    """Whose credential a request says it brings: an id, never a secret."""
    signer = _SIGNER.search(request.headers.get(SIGNATURE_INPUT, ""))
    if signer is not None:
        return signer[1]
    token = request.headers.get("Authorization", "").partition(" ")[2].strip()
    if token.startswith(("bg_", "bs_")):
        return token.partition(".")[0]
    return hashlib.sha256(token.encode()).hexdigest()


def _limited(why: str, wait: float) -> BlindgateError:
    return refusal("rate-limited", f"{why}: ask again in {math.ceil(wait)} s", retry_after=wait)
