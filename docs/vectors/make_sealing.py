"""Writes examples of everything that a seal is made of, good and bad, to `sealing.json` beside this file.

Keys, nonces and times are fixed, so making them again changes nothing; `--check` compares instead of writing. Another
implementation reads the file, in which bytes are base64, and must come to each `verdict`: `ok`, or the code of the error.

ML-KEM draws at random, and takes nothing from outside: the key that is wrapped by X-Wing was drawn once, and is kept for as long
as it opens.
"""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blindgate_protocol.canonical import canonical, digest
from blindgate_protocol.chunks import RequestStream, Sealer, Stream
from blindgate_protocol.content_key import Side
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.padding import Padding
from blindgate_protocol.sealing import RecipientKeys, Seal, WrappedKey, seal_info, seal_key

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))

from fixed_hpke import Hpke  # noqa: E402
from sealed_jobs import (  # noqa: E402
    BUCKETS,
    CLASSIC,
    CONTENT_KEY,
    EPHEMERAL,
    HOUR,
    HYBRID,
    JOB,
    NODE,
    NONCE,
    ORDER,
    PIECES,
    REQUEST,
    X25519_SEED,
    X_WING_SEED,
    T,
    binding,
    evidence,
    offered,
    sealed,
    stream,
    terms,
    wrapped,
)

FILE = HERE / "sealing.json"
LOW_ORDER = 325606250916557431795983626356110631294008115727848805560023387167927233504
"""Where a point of order 8 lies on Curve25519."""


def base(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()


def by_x_wing() -> WrappedKey:
    """The content key by X-Wing: the one in the file, or another where that does not open."""
    try:
        kept = next(one["seal"] for one in json.loads(FILE.read_text())["seals"] if one["case"] == "by X-Wing")
        found = Seal.from_bytes(kept.encode()).recipients[0]
        if HYBRID.unwrap(found, terms()).secret() == CONTENT_KEY.secret():
            return found
    except (OSError, KeyError, StopIteration, BlindgateError):
        pass
    return seal_key(CONTENT_KEY, terms(), [offered(HYBRID).document], now=T).recipients[0]


def key_sets() -> Iterator[dict[str, Any]]:
    """Key sets, as they travel."""
    yield {
        "case": "X25519",
        "verdict": "ok",
        "digest": CLASSIC.key_set.digest,
        "text": CLASSIC.key_set.to_bytes().decode(),
    }
    yield {
        "case": "with X-Wing",
        "verdict": "ok",
        "digest": HYBRID.key_set.digest,
        "text": HYBRID.key_set.to_bytes().decode(),
    }

    def changed(what: str, **changes: Any) -> dict[str, Any]:
        members = HYBRID.key_set.model_dump(mode="json") | changes
        return {"case": what, "verdict": "malformed", "text": canonical(members).decode()}

    raw = HYBRID.key_set.x_wing or b""
    for what, low in (("zero", 0), ("one", 1), ("of order 8", LOW_ORDER)):
        yield changed(f"an X25519 point of low order: {what}", x25519=_url(low.to_bytes(32, "little")))
    yield changed(
        "an X25519 key in another than its canonical form", x25519=_url((2**255 - 19 + 9).to_bytes(32, "little"))
    )
    yield changed("an X25519 key with its top bit set", x25519=_url(_top_bit(CLASSIC.key_set.x25519)))
    yield changed("an X25519 key that is too short", x25519=_url(CLASSIC.key_set.x25519[:-1]))
    yield changed("an X-Wing key whose second half is of low order", x_wing=_url(raw[:-32] + bytes(32)))
    yield changed("an X-Wing key whose first half is no ML-KEM-768 key", x_wing=_url(b"\xff" * 1184 + raw[-32:]))
    yield changed("a receipt key that is none", receipt="ed25519:" + "_" * 43)
    yield changed("that ends before it begins", expires=T)
    yield changed("for another purpose", purpose="blindgate seal v1")
    yield changed("with a member too many", note="")
    missing = HYBRID.key_set.model_dump(mode="json")
    del missing["purpose"]
    yield {"case": "without its purpose", "verdict": "malformed", "text": canonical(missing).decode()}
    spaced = json.dumps(HYBRID.key_set.model_dump(mode="json"), sort_keys=True)
    yield {"case": "not canonical", "verdict": "malformed", "text": spaced}
    padded = HYBRID.key_set.to_bytes().decode().replace(_url(raw), base64.b64encode(raw).decode())
    yield {"case": "in the other alphabet of base64", "verdict": "malformed", "text": padded}


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _top_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] | 0x80])


def bindings() -> Iterator[dict[str, Any]]:
    """What evidence is about, and what the platform must sign."""
    for what, made in (
        ("with a GPU", binding(CLASSIC.key_set)),
        ("without", binding(CLASSIC.key_set, gpus=())),
        ("of another policy", binding(CLASSIC.key_set, policy=digest(b"other"))),
    ):
        text = made.to_bytes()
        yield {
            "case": what,
            "text": text.decode(),
            "digest": made.digest,
            "report_data": base(made.report_data()),
            "gpu_nonce": base(made.gpu_nonce()),
        }


def paddings() -> Iterator[dict[str, Any]]:
    """Sizes for lengths."""
    for rule in (Padding(), Padding(rule="powers"), BUCKETS):
        lengths = [length for length in (0, 1, 16, 17, 63, 64, 65, 256, 1000, 1 << 20) if length <= rule.capacity]
        yield {"padding": rule.model_dump(mode="json"), "sizes": [[length, rule.size_of(length)] for length in lengths]}


def derivations() -> Iterator[dict[str, Any]]:
    """What is derived from the content key."""
    for of in stream(BUCKETS):
        derived = CONTENT_KEY.derive(of.to_bytes(), length=44, salt=NONCE)
        yield {
            "info": of.to_bytes().decode(),
            "salt": base(NONCE),
            "key": base(derived[:32]),
            "base": base(derived[32:]),
        }


def commitments() -> Iterator[dict[str, Any]]:
    """Commitments to prompt and answer."""
    sides: tuple[tuple[Side, bytes], ...] = (("prompt", b"".join(PIECES)), ("answer", b""))
    for side, text in sides:
        made = CONTENT_KEY.commitment(side, job=JOB, order=ORDER.digest)
        made.add(text)
        yield {
            "of": side,
            "job": JOB,
            "order": ORDER.digest,
            "data": base(text),
            "key": base(made.key),
            "value": made.value(),
        }


def streams() -> Iterator[dict[str, Any]]:
    """Sealed streams: the context, what came, and the data or the verdict."""
    request, response = stream(BUCKETS)

    def one(what: str, verdict: str, data: bytes, of: Stream = request, pieces: list[bytes] = PIECES) -> dict[str, Any]:
        made = {"case": what, "verdict": verdict, "context": of.to_bytes().decode(), "stream": base(data)}
        return made | ({"data": [base(piece) for piece in pieces]} if verdict == "ok" else {})

    bare, powers = RequestStream(job=JOB, padding=Padding()), RequestStream(job=JOB, padding=Padding(rule="powers"))
    yield one("a request, in buckets", "ok", REQUEST)
    yield one("a response, in buckets", "ok", sealed(PIECES, response), response)
    yield one("not padded", "ok", sealed(PIECES, bare), bare)
    yield one("in powers of two", "ok", sealed(PIECES, powers), powers)
    yield one("nothing", "ok", sealed([b""], request), pieces=[b""])
    yield one("more than a bucket holds", "ok", sealed([bytes(300)], request), pieces=[bytes(256), bytes(44)])

    head, *chunks = split(REQUEST)
    yield one("one bit of a chunk changed", "bad-chunk", flipped(REQUEST, 50))
    yield one("one bit of the nonce changed", "bad-chunk", flipped(REQUEST, 0))
    yield one(
        "the final chunk marked as another", "bad-chunk", head + chunks[0] + chunks[1] + flipped(chunks[2], 0, 0x80)
    )
    yield one("another chunk marked as the final one", "bad-chunk", head + flipped(chunks[0], 0, 0x80))
    yield one("two chunks exchanged", "bad-chunk", head + chunks[1] + chunks[0] + chunks[2])
    yield one("a chunk left out", "bad-chunk", head + chunks[0] + chunks[2])
    yield one("a chunk doubled", "bad-chunk", head + chunks[0] + chunks[0] + chunks[1] + chunks[2])
    yield one("a chunk behind the final one", "bad-chunk", REQUEST + chunks[2])
    yield one("a byte behind the final chunk", "bad-chunk", REQUEST + b"\x00")
    yield one("without the final chunk", "truncated-stream", head + chunks[0] + chunks[1])
    yield one("cut off within a chunk", "truncated-stream", REQUEST[:-1])
    yield one("empty", "truncated-stream", b"")
    other = Sealer(CONTENT_KEY, request, draw=lambda _: bytes(32))
    yield one(
        "continued by another stream of the same job",
        "bad-chunk",
        head + chunks[0] + b"".join(split(other.seal(PIECES[0]) + other.finish())[2:]),
    )
    yield one("a request as a response", "bad-chunk", REQUEST, response)
    yield one("of another job", "bad-chunk", REQUEST, RequestStream(job="f" * 32, padding=BUCKETS))
    yield one(
        "a response of another node",
        "bad-chunk",
        sealed(PIECES, response.model_copy(update={"key_set": HYBRID.key_set.digest})),
        response,
    )
    yield one("under another rule of padding", "bad-chunk", sealed(PIECES, bare))
    yield one("a length that no chunk has", "bad-chunk", head + (1 << 30).to_bytes(4, "big"))
    for what, padded in (
        ("padding that is not zero", bytes([0, 0, 0, 1]) + b"a" + bytes(14) + b"\x01"),
        ("a bucket too large", bytes([0, 0, 0, 1]) + b"a" + bytes(63)),
        ("a length beyond the chunk", bytes([0, 0, 0, 17]) + bytes(16)),
    ):
        yield one(what, "bad-padding", head + raw_chunk(request, padded, final=True))
    yield one(
        "an empty chunk that is not the final one", "bad-padding", head + raw_chunk(request, bytes(20), final=False)
    )


def raw_chunk(of: Stream, padded: bytes, *, final: bool) -> bytes:
    """A first chunk, well sealed, over whatever plaintext."""
    derived = CONTENT_KEY.derive(of.to_bytes(), length=44, salt=NONCE)
    header = ((1 << 31 if final else 0) + len(padded) + 16).to_bytes(4, "big")
    return header + AESGCM(derived[:32]).encrypt(derived[32:], padded, header)


def split(data: bytes) -> list[bytes]:
    """A stream's nonce and chunks."""
    parts, at = [data[:32]], 32
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big") % (1 << 31)
        parts.append(data[at:end])
        at = end
    return parts


def flipped(data: bytes, place: int, mask: int = 1) -> bytes:
    """The same with a bit changed."""
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def seals() -> Iterator[dict[str, Any]]:
    """Seals, with the order that they came with, and what a node makes of them."""

    def one(what: str, verdict: str, seal: Seal | bytes, now: int = T + 1) -> dict[str, Any]:
        text = seal if isinstance(seal, bytes) else seal.to_bytes()
        return {"case": what, "verdict": verdict, "now": now, "seal": text.decode()}

    good = Seal(terms=terms(), recipients=(wrapped(terms()),))
    other = RecipientKeys(
        node=NODE.id, receipt=NODE, x25519=bytes([9]) * 32, x_wing=None, issued=T, expires=T + 24 * HOUR
    )
    yield one("by X25519", "ok", good)
    yield one("by X-Wing", "ok", Seal(terms=terms(), recipients=(by_x_wing(),)))
    yield one("to two nodes", "ok", Seal(terms=terms(), recipients=(wrapped(terms(), other), wrapped(terms()))))
    for name, verdict, value in (
        ("job", "seal-terms", "f" * 32),
        ("order", "seal-terms", digest(b"other")),
        ("model", "seal-terms", digest(b"other")),
        ("policy", "seal-terms", digest(b"other")),
        ("padding", "seal", Padding()),
        ("expires", "seal", T + 2 * HOUR),
    ):
        swapped = Seal(terms=terms(**{name: value}), recipients=good.recipients)
        yield one(f"another {name} put in", verdict, swapped)
    yield one("after its end", "seal-expired", good, T + HOUR)
    late = terms(expires=T + 48 * HOUR)
    yield one("after the key set's end", "seal-expired", Seal(terms=late, recipients=(wrapped(late),)), T + 24 * HOUR)
    yield one("before the key set's time", "seal-expired", good, T - 1)
    yield one("to another node alone", "seal-terms", Seal(terms=terms(), recipients=(wrapped(terms(), other),)))
    unknown = wrapped(terms(), evidence=digest(b"other"))
    yield one("on other evidence", "seal-terms", Seal(terms=terms(), recipients=(unknown,)))
    renamed = wrapped(terms(), other, key_set=CLASSIC.key_set.digest, evidence=evidence(CLASSIC.key_set).digest)
    yield one("another node's key, renamed", "seal", Seal(terms=terms(), recipients=(renamed,)))
    yield one(
        "one bit changed",
        "seal",
        Seal(terms=terms(), recipients=(wrapped(terms(), sealed=flipped(wrapped(terms()).sealed, 40)),)),
    )
    low = bytes(32) + wrapped(terms()).sealed[32:]
    yield one(
        "encapsulated by a point of low order", "seal", Seal(terms=terms(), recipients=(wrapped(terms(), sealed=low),))
    )
    members = good.model_dump(mode="json")
    twice = members | {"recipients": members["recipients"] * 2}
    yield one("one recipient twice", "malformed", canonical(twice))
    yield one("to nobody", "malformed", canonical(members | {"recipients": []}))
    suite = members["recipients"][0] | {"kem": "x-wing"}
    yield one("called by another KEM", "malformed", canonical(members | {"recipients": [suite]}))
    suite = members["recipients"][0] | {"kem": "p-256"}
    yield one("by a KEM that is none of these", "malformed", canonical(members | {"recipients": [suite]}))


def hpke() -> dict[str, Any]:
    """RFC 9180 step by step, for the first of the seals."""
    info = seal_info(terms(), key_set=CLASSIC.key_set.digest, evidence=evidence(CLASSIC.key_set).digest, kem="x25519")
    made = Hpke().schedule(EPHEMERAL, CLASSIC.key_set.x25519, info)
    return {"ephemeral": base(EPHEMERAL), "info": info.decode()} | {name: base(value) for name, value in made.items()}


def vectors() -> dict[str, Any]:
    """The whole file."""
    node = {
        "key": NODE.id,
        "x25519": base(X25519_SEED),
        "x_wing_seed": base(X_WING_SEED),
        "issued": T,
        "expires": T + 24 * HOUR,
    }
    return {
        "about": "Made by docs/vectors/make_sealing.py. docs/protocol.md, section 13, says how each is checked.",
        "content_key": base(CONTENT_KEY.secret()),
        "node": node,
        "order": ORDER.envelope.model_dump(mode="json"),
        "shown": [evidence(one.key_set).to_bytes().decode() for one in (CLASSIC, HYBRID)],
        "key_sets": list(key_sets()),
        "bindings": list(bindings()),
        "padding": list(paddings()),
        "derivations": list(derivations()),
        "streams": list(streams()),
        "commitments": list(commitments()),
        "hpke": hpke(),
        "seals": list(seals()),
    }


def main() -> None:
    """Write the file, or with `--check` compare it."""
    text = json.dumps(vectors(), indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit("docs/vectors/sealing.json is not what docs/vectors/make_sealing.py writes: run make vectors")


if __name__ == "__main__":
    main()
