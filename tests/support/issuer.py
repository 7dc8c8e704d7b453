"""A small OpenID Connect issuer over real HTTP: a discovery document, its keys, and tokens that it signs, honest or not."""

import http.server
import json
import threading
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AUDIENCE = "blindgate"


class Issuer:
    """An issuer with an RSA key, `first`, and an elliptic one, `second`.

    Attributes:
        asked: the paths that were asked for.
        documents: what is answered, by path.
        moved: where a question is sent instead, by path.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.moved: dict[str, str] = {}
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                body, elsewhere = issuer.documents.get(self.path), issuer.moved.get(self.path)
                self.send_response(302 if elsewhere else 404 if body is None else 200)
                if elsewhere:
                    self.send_header("Location", elsewhere)
                self.end_headers()
                if body is not None and not elsewhere:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its parent's name)
                del format, args

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.keys: dict[str, Any] = {
            "first": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "second": ec.generate_private_key(ec.SECP256R1()),
        }
        self.documents: dict[str, bytes] = {}
        self.publish()

    def publish(self) -> None:
        """Offer the discovery document and the public keys."""
        found = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.documents["/.well-known/openid-configuration"] = json.dumps(found).encode()
        self.documents["/keys"] = json.dumps({"keys": [self.jwk(name) for name in self.keys]}).encode()

    def jwk(self, name: str) -> dict[str, Any]:
        """One public key as the issuer offers it."""
        public = self.keys[name].public_key()
        kind: Any = jwt.algorithms.RSAAlgorithm if isinstance(public, rsa.RSAPublicKey) else jwt.algorithms.ECAlgorithm
        return {**json.loads(kind.to_jwk(public)), "kid": name, "use": "sig"}

    def pem(self, name: str) -> bytes:
        """A public key in the form that an attacker has it, too."""
        public: bytes = self.keys[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return public

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What an honest token for this gateway says."""
        now = int(time.time())
        given = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "nbf": now, "exp": now + 300}
        return given | {"roles": ["staff"]} | changes

    def token(self, key: str = "first", *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token signed with one of the keys."""
        algorithm = "RS256" if isinstance(self.keys[key], rsa.RSAPrivateKey) else "ES256"
        claims = {name: value for name, value in self.claims(**changes).items() if value is not None}
        return jwt.encode(claims, self.keys[key], algorithm=algorithm, headers={"kid": key} | (header or {}))

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
