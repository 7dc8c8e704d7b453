"""The public keys of an OpenID Connect issuer: found through its discovery document, fetched when they are first needed, kept.

The issuer is trusted to say which keys are its own, and with nothing else. What it answers is bounded in size and time, redirects
are not followed, and only `https` is spoken (`http` with this same machine). A key that is not known may be new, so the keys are
fetched again for it, but not more than once a minute, whatever callers make up. Keys are looked at again after an hour; while the
issuer does not answer, those that are known stay good for a day.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from blindgate_gateway.logs import log
from blindgate_gateway.problems import refusal
from blindgate_gateway.settings import LOOPBACK

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
MOST_BYTES: Final = 256 * 1024
MOST_KEYS: Final = 100
AGAIN_SECONDS: Final = 60.0
FRESH_SECONDS: Final = 3600.0
KEPT_SECONDS: Final = 86_400.0
_FETCH_SECONDS: Final = 5.0
_CHUNK: Final = 16 * 1024
_KINDS: Final = frozenset({"RSA", "EC", "OKP"})


class IssuerKeys:
    """The keys of one issuer. Safe to use from several threads; nothing is fetched before the first use."""

    def __init__(self, issuer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`issuer` is the exact value of `iss` in its tokens."""
        self._issuer, self._clock = issuer, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = -KEPT_SECONDS
        self._lock = threading.Lock()

    def find(self, name: str) -> jwt.PyJWK | None:
        """The key that the issuer calls `name`; `None` when it has none. Raises `GatewayError` (503) when none is known at all."""
        with self._lock:
            now = self._clock()
            stale = now - self._fetched >= FRESH_SECONDS or name not in self._keys
            if stale and now - self._tried >= AGAIN_SECONDS:
                self._tried = now
                self._fetch(now)
            if now - self._fetched >= KEPT_SECONDS:
                message = "the keys of the identity provider cannot be fetched now"
                raise refusal("issuer-unreachable", message, retry_after=AGAIN_SECONDS - (now - self._tried))
            return self._keys.get(name)

    def _fetch(self, now: float) -> None:
        try:
            self._keys = _public_keys(_get(_where(self._issuer)))
        except (OSError, HTTPException, ValueError, KeyError, RecursionError, jwt.PyJWTError) as error:
            log.warning("issuer.unreachable", issuer=self._issuer, error=f"{type(error).__name__}: {error}"[:300])
            return
        self._fetched = now


def _is_allowed(url: str) -> bool:
    """Whether an issuer may be asked at `url`."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any) -> None:
        """Follow nothing: the redirect itself is then the error."""


_OPENER: Final = urllib.request.build_opener(_NoRedirects)


def _where(issuer: str) -> str:
    """Where the issuer's keys lie, as its discovery document says."""
    found = _get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        message = f"the discovery document is of another issuer than {issuer}"
        raise ValueError(message)
    return str(found["jwks_uri"])


def _get(url: str) -> dict[str, Any]:
    if not _is_allowed(url):
        message = f"not an address that may be asked: {url[:200]!r}"
        raise ValueError(message)
    until = time.monotonic() + _FETCH_SECONDS
    data = b""
    with _OPENER.open(url, timeout=_FETCH_SECONDS) as response:
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > MOST_BYTES or time.monotonic() > until:
                message = f"{url[:200]}: more than {MOST_BYTES} bytes, or {_FETCH_SECONDS:.0f} s"
                raise ValueError(message)
    value = json.loads(data)
    if not isinstance(value, dict):
        message = f"{url[:200]}: not a JSON object"
        raise ValueError(message)  # noqa: TRY004  (what came is a value of the wrong form)
    return value


def _public_keys(found: dict[str, Any]) -> dict[str, jwt.PyJWK]:
    """The keys that may sign, by name: public, of asymmetric algorithms from the list. Others are left out, not an error."""
    keys = {}
    for entry in list(found["keys"])[:MOST_KEYS]:
        if not isinstance(entry, dict) or entry.get("kty") not in _KINDS or "d" in entry:
            continue
        if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
            continue
        try:
            key = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in ALGORITHMS:
            keys[entry["kid"]] = key
    return keys
