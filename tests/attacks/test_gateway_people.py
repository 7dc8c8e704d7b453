"""People with tokens of an OpenID Connect issuer: who gets in, and everything that must not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from blindgate_gateway.identity import issuer_keys
from blindgate_gateway.identity.issuer_keys import AGAIN_SECONDS, FRESH_SECONDS, KEPT_SECONDS, MOST_BYTES, IssuerKeys
from blindgate_gateway.settings import load_settings
from blindgate_protocol.errors import GatewayError, MalformedError
from brokerage import Caller
from desk import Desk, open_desk
from issuer import AUDIENCE, Issuer

ROLES = {"staff": "operator", "revision": "auditor", "doctors": "jobs", "viewers": "read"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """An honest issuer."""
    made = Issuer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def desk(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A gateway that takes its tokens."""
    given = {"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE, "oidc_roles": ROLES, "failures": 0}
    with open_desk(tmp_path_factory.mktemp("people"), **given) as made:
        yield made


def _answer(desk: Desk, token: str, path: str = "/v1/operator/jobs") -> Any:
    return Caller(desk.http, token).send("GET", path)


@pytest.mark.parametrize(
    ("claims", "opens"),
    [
        pytest.param({"roles": ["staff"]}, {"/v1/operator/jobs"}, id="operator"),
        pytest.param({"roles": ["revision", "staff"]}, {"/v1/operator/jobs", "/v1/audit/jobs"}, id="both"),
        pytest.param({"roles": "unknown revision"}, {"/v1/audit/jobs"}, id="a text with spaces between"),
        pytest.param({"roles": ["doctors"], "tenant": "bank"}, {"/v1/jobs", "/v1/keys"}, id="a tenant's"),
        pytest.param({"roles": ["viewers"], "tenant": "bank"}, {"/v1/jobs", "/v1/keys"}, id="a tenant's reader"),
        pytest.param(
            {"roles": ["doctors", "staff"], "tenant": "bank"}, {"/v1/operator/jobs"}, id="staff has no tenant"
        ),
        pytest.param({"roles": ["doctors"], "tenant": "nobody"}, set(), id="of no tenant here"),
        pytest.param({"roles": ["doctors"]}, set(), id="of no tenant at all"),
        pytest.param({"roles": ["doctors"], "tenant": ["bank"]}, set(), id="a tenant that is no text"),
        pytest.param({"roles": ["others"], "tenant": "bank"}, set(), id="no role that counts"),
        pytest.param({"roles": {"staff": True}}, set(), id="a claim of another form"),
        pytest.param({"roles": None}, set(), id="no claim"),
    ],
)
def test_a_person_may_do_what_the_settings_make_of_the_claims(
    desk: Desk, issuer: Issuer, claims: dict[str, Any], opens: set[str]
) -> None:
    """And nothing besides: a valid token that is worth nothing here is 403."""
    for key in ("first", "second"):
        token = issuer.token(key, **claims)
        for path in ("/v1/operator/jobs", "/v1/audit/jobs", "/v1/jobs", "/v1/keys"):
            assert _answer(desk, token, path).status_code == (200 if path in opens else 403), path


def _compact(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token that no library would make."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(sign(signed))).decode()


def _none(issuer: Issuer) -> str:
    return _compact({"alg": "none", "kid": "first"}, issuer.claims(), lambda _: b"")


def _none_in_other_letters(issuer: Issuer) -> str:
    return _compact({"alg": "nOnE", "kid": "first"}, issuer.claims(), lambda _: b"x")


def _public_key_as_secret(issuer: Issuer) -> str:
    secret = issuer.pem("first")
    header = {"alg": "HS256", "kid": "first"}
    return _compact(header, issuer.claims(), lambda data: hmac.digest(secret, data, hashlib.sha256))


def _another_audience(issuer: Issuer) -> str:
    return issuer.token(aud="another-service")


def _no_audience(issuer: Issuer) -> str:
    return issuer.token(aud=None)


def _expired(issuer: Issuer) -> str:
    return issuer.token(exp=int(time.time()) - 60)


def _no_end(issuer: Issuer) -> str:
    return issuer.token(exp=None)


def _not_yet(issuer: Issuer) -> str:
    return issuer.token(nbf=int(time.time()) + 120)


def _nobody(issuer: Issuer) -> str:
    return issuer.token(sub=None)


def _another_issuers_name(issuer: Issuer) -> str:
    return issuer.token(iss="https://other.example")


def _another_issuers_key(issuer: Issuer) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(issuer.claims(), key, algorithm="RS256", headers={"kid": "first"})


def _a_key_of_another_kind(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), issuer.keys["second"], algorithm="ES256", headers={"kid": "first"})


def _another_algorithm_of_the_key(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), issuer.keys["first"], algorithm="PS512", headers={"kid": "first"})


def _no_key_named(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), issuer.keys["first"], algorithm="RS256")


def _critical(issuer: Issuer) -> str:
    return issuer.token(header={"crit": ["made-up"], "made-up": 1})


def _altered(issuer: Issuer) -> str:
    head, claims, signature = issuer.token().split(".")
    raised = base64.urlsafe_b64encode(json.dumps(issuer.claims(sub="root")).encode()).rstrip(b"=").decode()
    assert raised != claims
    return f"{head}.{raised}.{signature}"


@pytest.mark.parametrize(
    "forge",
    [
        _none,
        _none_in_other_letters,
        _public_key_as_secret,
        _another_audience,
        _no_audience,
        _expired,
        _no_end,
        _not_yet,
        _nobody,
        _another_issuers_name,
        _another_issuers_key,
        _a_key_of_another_kind,
        _another_algorithm_of_the_key,
        _no_key_named,
        _critical,
        _altered,
        lambda _: "..",
        lambda _: "a.b.c",
        lambda _: "e30.e30.",
    ],
)
def test_a_token_that_is_none_of_the_issuers_for_this_gateway_is_401(
    desk: Desk, issuer: Issuer, forge: Callable[[Issuer], str]
) -> None:
    """However it was made."""
    assert _answer(desk, issuer.token()).status_code == 200
    answer = _answer(desk, forge(issuer))
    assert (answer.status_code, answer.json()["code"]) == (401, "not-authorised")


def test_a_token_that_expired_says_so(desk: Desk, issuer: Issuer) -> None:
    """So that somebody signs in again in place of calling for help; half a minute is forgiven."""
    assert "expired" in _answer(desk, _expired(issuer)).json()["detail"]
    assert _answer(desk, issuer.token(exp=int(time.time()) - 10)).status_code == 200


def test_keys_that_a_token_brings_along_are_not_looked_at(desk: Desk, issuer: Issuer) -> None:
    """Neither fetched from where it says, nor used."""
    thief = Issuer()
    try:
        for header in ({"jku": f"{thief.url}/keys"}, {"x5u": f"{thief.url}/keys"}, {"jwk": thief.jwk("first")}):
            token = thief.token(header=header, iss=issuer.url)
            assert _answer(desk, token).status_code == 401
        assert thief.asked == []
    finally:
        thief.close()


def test_without_an_issuer_in_the_settings_no_such_token_counts(issuer: Issuer, tmp_path: Path) -> None:
    """It is an option."""
    with open_desk(tmp_path) as plain:
        assert _answer(plain, issuer.token()).status_code == 401


def test_keys_are_fetched_once_and_for_made_up_names_once_a_minute(issuer: Issuer) -> None:
    """Nobody makes the gateway a hammer; a key that is new is found after a minute, one that is gone is gone after an hour."""
    now = [0.0]
    keys = IssuerKeys(issuer.url, clock=lambda: now[0])
    issuer.asked.clear()
    assert keys.find("first") is not None
    for number in range(50):
        assert keys.find(f"made-up-{number}") is None
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    issuer.keys["third"] = issuer.keys.pop("second")
    issuer.publish()
    now[0] = AGAIN_SECONDS
    assert keys.find("third") is not None
    assert keys.find("second") is None
    issuer.keys["second"] = issuer.keys.pop("third")
    issuer.publish()
    now[0] += FRESH_SECONDS
    assert keys.find("first") is not None
    assert (keys.find("third"), len(issuer.asked)) == (None, 6)


def test_an_issuer_that_is_down_locks_nobody_out_for_a_day(issuer: Issuer) -> None:
    """Then nobody is believed any more; before the first answer it is 503, not 401."""
    now = [0.0]
    keys = IssuerKeys(issuer.url, clock=lambda: now[0])
    kept, issuer.documents = issuer.documents, {}
    try:
        with pytest.raises(GatewayError, match="cannot be fetched") as caught:
            keys.find("first")
        assert caught.value.status == 503
        issuer.documents = kept
        now[0] = AGAIN_SECONDS
        assert keys.find("first") is not None
        issuer.documents = {}
        now[0] += KEPT_SECONDS - 1
        assert keys.find("first") is not None
        now[0] += 1
        with pytest.raises(GatewayError):
            keys.find("first")
    finally:
        issuer.documents = kept


def _huge(issuer: Issuer) -> None:
    issuer.documents["/keys"] = b'{"keys": [], "more": "' + b"x" * MOST_BYTES + b'"}'


def _another_discovery(issuer: Issuer) -> None:
    found = {"issuer": "https://other.example", "jwks_uri": f"{issuer.url}/keys"}
    issuer.documents["/.well-known/openid-configuration"] = json.dumps(found).encode()


def _a_file(issuer: Issuer) -> None:
    found = {"issuer": issuer.url, "jwks_uri": "file:///etc/hostname"}
    issuer.documents["/.well-known/openid-configuration"] = json.dumps(found).encode()


def _in_the_clear(issuer: Issuer) -> None:
    found = {"issuer": issuer.url, "jwks_uri": "http://keys.example/keys"}
    issuer.documents["/.well-known/openid-configuration"] = json.dumps(found).encode()


def _deep(issuer: Issuer) -> None:
    issuer.documents["/keys"] = b"[" * 100_000


def _no_object(issuer: Issuer) -> None:
    issuer.documents["/keys"] = b"[]"


def _secrets_only(issuer: Issuer) -> None:
    keys = [{"kty": "oct", "k": "AAAA", "kid": "first", "alg": "HS256"}, {"kty": "made-up", "kid": "first"}, 7]
    keys.append(issuer.jwk("first") | {"use": "enc"})
    keys.append(issuer.jwk("first") | {"alg": "HS256"})
    issuer.documents["/keys"] = json.dumps({"keys": keys}).encode()


def _elsewhere(issuer: Issuer) -> None:
    issuer.redirect = f"{issuer.url}/keys"


@pytest.mark.parametrize(
    "spoil", [_huge, _another_discovery, _a_file, _in_the_clear, _deep, _no_object, _secrets_only, _elsewhere]
)
def test_an_answer_that_no_issuer_should_give_makes_nobody_known(spoil: Callable[[Issuer], None]) -> None:
    """Bounded, of the right issuer, over the network, not elsewhere; and no key but a public one that signs."""
    spoilt = Issuer()
    try:
        spoil(spoilt)
        keys = IssuerKeys(spoilt.url)
        if spoil is _secrets_only:
            assert keys.find("first") is None
        else:
            with pytest.raises(GatewayError):
                keys.find("first")
    finally:
        spoilt.close()


def test_an_issuer_that_answers_a_byte_at_a_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole answer has its time, not each byte."""
    monkeypatch.setattr(issuer_keys, "_FETCH_SECONDS", 0.0)
    slow = Issuer()
    try:
        with pytest.raises(GatewayError):
            IssuerKeys(slow.url).find("first")
    finally:
        slow.close()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param('oidc_issuer = "http://issuer.example"\noidc_audience = "x"', "https", id="in the clear"),
        pytest.param('oidc_issuer = "https://issuer.example"', "oidc_audience", id="for anybody"),
        pytest.param('[oidc_roles]\nadmins = "root"', "oidc_roles", id="no such role"),
    ],
)
def test_settings_that_would_let_in_more_than_was_meant_are_refused(tmp_path: Path, text: str, names: str) -> None:
    """At start."""
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(MalformedError, match=names):
        load_settings(file)


def test_the_roles_can_be_written_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pairs."""
    monkeypatch.setenv("BLINDGATE_GATEWAY_OIDC_ROLES", "gateway admins=operator, auditors=auditor")
    assert load_settings().oidc_roles == {"gateway admins": "operator", "auditors": "auditor"}
