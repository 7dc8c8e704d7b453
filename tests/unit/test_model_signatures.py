"""A maker's signature counts only if it verifies, is of Model Signing 1.0, and lists exactly the files at hand."""

import base64
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from blindgate.model_makers import made_by_key
from blindgate_models.model_signatures import MadeBy, ModelSignature, made_by
from blindgate_models.plain_packages import open_plain_package, publish_plain
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError, InputError, PackageDigestError, PackageError, SignatureError
from blindgate_protocol.makers import MAX_SIGNATURE_BYTES, Maker
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef
from brokerage import make_manifest
from made_signatures import (
    KEY,
    OTHER_KEY,
    certificate,
    public_pem,
    sign_folder,
    signed,
    statement,
    with_root,
    write_model,
)
from signed_packages import DAY, PUBLISHER

CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, not signed yet."""
    return write_model(tmp_path / "model")


def published(folder: Path, data: bytes, key: bytes | None = None) -> Signed[Manifest]:
    """The folder's package, beside it."""
    made, _ = made_by_key(public_pem() if key is None else key, data)
    return publish_plain(
        folder,
        folder.parent / "package",
        PUBLISHER,
        name="ward-chat",
        version=1,
        kind="causal-lm",
        issued=DAY,
        made_by=made,
    )


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_a_package_states_who_made_its_files_and_keeps_the_signature(folder: Path, curve: ec.EllipticCurve) -> None:
    """The publisher's signature covers the maker's key and the signature's digest; the file lies in the package."""
    key = ec.derive_private_key(0x5EED, curve)
    data = sign_folder(folder, key)
    maker = published(folder, data, public_pem(key)).document.maker
    assert maker is not None
    assert (folder.parent / "package" / "model.sig").read_bytes() == data
    opened = open_plain_package(folder.parent / "package").manifest.document
    assert opened.maker == maker
    assert maker.algorithm == f"ecdsa-p{curve.key_size}-sha{ {256: 256, 384: 384, 521: 512}[curve.key_size] }"
    assert maker.signature.size == len(data)


def test_the_signature_and_gits_files_are_not_packed(folder: Path) -> None:
    """Model Signing leaves both out of its list. What is left out of the list is left out of the package."""
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (folder / "model.sig").write_bytes(data := sign_folder(folder))
    published(folder, data)
    files = folder.parent / "package" / "files"
    names = sorted(str(file.relative_to(files)) for file in files.rglob("*") if file.is_file())
    assert names == ["1_Pooling/config.json", "config.json", "model.safetensors"]


def test_a_list_may_be_sorted_by_paths_or_by_texts(folder: Path) -> None:
    """`a/b.json` comes before `a.json` by parts, and after it by characters."""
    (folder / "1_Pooling.json").write_text("{}")
    by_parts = statement(folder)
    by_text = statement(folder)
    by_text["predicate"]["resources"].sort(key=lambda one: one["name"])
    assert by_text["predicate"] != by_parts["predicate"]
    for made in (by_parts, with_root(by_text)):
        made_by_key(public_pem(), json.dumps(signed(made)).encode())


def test_fields_that_a_later_predicate_adds_are_passed_over(folder: Path) -> None:
    """Model Signing 1.0 asks verifiers for it."""
    made = statement(folder)
    made["predicate"]["annotations"] = {"trained": "2026"}
    published(folder, json.dumps(signed(made)).encode())


def _swap(folder: Path) -> None:
    (folder / "config.json").write_text('{"a": 2}')


def _add(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")


def _remove(folder: Path) -> None:
    (folder / "config.json").unlink()


def _rename(folder: Path) -> None:
    (folder / "config.json").rename(folder / "settings.json")


def _link(folder: Path) -> None:
    shutil.copy(folder / "config.json", folder.parent / "outside.json")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder.parent / "outside.json")


def _other_signature(folder: Path) -> None:
    (folder / "other.sig").write_text("{}")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (_swap, PackageDigestError, "config.json: its SHA-256 is"),
        (_add, PackageError, "extra.json: is there, and not signed"),
        (_remove, PackageError, "config.json: is listed, and not there"),
        (_rename, PackageError, "settings.json: is there, and not signed"),
        (_link, PackageError, "config.json: a link"),
        (_other_signature, PackageError, "other.sig: expected one of"),
    ],
)
def test_other_files_than_the_signed_ones_make_no_package(
    folder: Path, change: Callable[[Path], None], error: type[BlindgateError], words: str
) -> None:
    """One byte, one file more or less, a link: the publisher is told which, and nothing is written."""
    data = sign_folder(folder)
    change(folder)
    with pytest.raises(error, match=words):
        published(folder, data)
    assert not (folder.parent / "package").exists()


def test_a_file_that_the_signer_left_out_is_not_packed_unsigned(folder: Path) -> None:
    """Anybody could have put it there. Git's own files aside, nothing is dropped in silence, either."""
    (folder / "generation_config.json").write_text("{}")
    data = json.dumps(signed(statement(folder, ignored=["generation_config.json"]))).encode()
    with pytest.raises(PackageError, match=r"generation_config\.json: .*whose signer left it out"):
        published(folder, data)


def test_gits_files_are_packed_only_where_they_are_signed(folder: Path) -> None:
    """A signer who did not leave them out signed them, or the folder is another."""
    data = json.dumps(signed(statement(folder, ignored=[]))).encode()
    (folder / ".gitattributes").write_text("")
    with pytest.raises(PackageError, match=r"\.gitattributes: is there, and not signed"):
        published(folder, data)


def _bundle(place: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """A change beside what is signed."""

    def change(made: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        _put(made, place, value)
        return made

    return change


def _signed(place: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """A change of what is signed, signed by the maker."""

    def change(_: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        _put(said, place, value)
        return signed(said)

    return change


def _put(made: Any, place: str, value: Any) -> None:
    *steps, last = place.split(".")
    for step in steps:
        made = made[int(step) if step.isdigit() else step]
    made[last] = value


_FULCIO = {"rawBytes": "MAA="}
_RESOURCE = {"name": "a.json", "algorithm": "sha256", "digest": "00" * 32}
REFUSED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]], str]] = {
    "another bundle": (_bundle("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1"), "mediaType"),
    "another payload": (_bundle("dsseEnvelope.payloadType", "text/plain"), "payloadType"),
    "two signatures": (_bundle("dsseEnvelope.signatures", [{"sig": "AA=="}] * 2), "signatures"),
    "odd base64": (_bundle("dsseEnvelope.payload", "AB=="), "payload: base64"),
    "no base64": (_bundle("dsseEnvelope.payload", "*"), "payload: not base64"),
    "a field more": (_bundle("dsseEnvelope.more", 1), "more: Extra"),
    "keyless": (_bundle("verificationMaterial", {"certificate": _FULCIO}), "keyless.*sign key"),
    "a log's entry": (_bundle("verificationMaterial.tlogEntries", [{"logIndex": "1"}]), "keyless.*sign key"),
    "nobody": (_bundle("verificationMaterial", {}), "either publicKey or"),
    "both": (_bundle("verificationMaterial.x509CertificateChain", {"certificates": [_FULCIO]}), "either publicKey or"),
    "no certificate": (_bundle("verificationMaterial", {"x509CertificateChain": {"certificates": []}}), "certificates"),
    "another statement": (_signed("_type", "https://in-toto.io/Statement/v0.1"), "Statement/v0.1"),
    "another predicate": (_signed("predicateType", "https://slsa.dev/provenance/v1"), "slsa.dev.*signed again"),
    "before 1.0": (_signed("predicateType", "https://model_signing/Digests/v0.1"), "Digests/v0.1.*signed again"),
    "shards": (_signed("predicate.serialization.method", "shards"), "method 'shards', expected 'files'"),
    "a shard's size": (_signed("predicate.serialization.shard_size", 10), "not by shards"),
    "another hash": (_signed("predicate.serialization.hash_type", "blake2b"), "hash_type 'blake2b', expected 'sha256'"),
    "another serialization": (_signed("predicate.serialization.sparse", 1), "sparse: Extra"),
    "a file's other hash": (_signed("predicate.resources.0.algorithm", "sha512"), "resources: 0.algorithm"),
    "a file's short digest": (_signed("predicate.resources.0.digest", "00"), "resources: 0.digest"),
    "outside": (_signed("predicate.resources.0.name", "../config.json"), "path inside the folder"),
    "code": (_signed("predicate.resources.0.name", "1.py"), "1.py: expected one of"),
    "no files": (_signed("predicate.resources", []), "resources"),
    "twice": (_signed("predicate.resources", [_RESOURCE, _RESOURCE]), "listed twice"),
    "not sorted": (_signed("predicate.resources.0.name", "zzz.json"), "sorted"),
    "another root": (_signed("predicate.resources.0.digest", "00" * 32), "subject: its digest"),
    "a root of another hash": (_signed("subject.0.digest", {"sha512": "00"}), "subject: its digest"),
    "no subject": (_signed("subject", []), "subject"),
    "two subjects": (_signed("subject", [{"name": "a", "digest": {}}] * 2), "subject"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_signature_of_model_signing_1_is_refused_by_its_rule(folder: Path, case: str) -> None:
    """Each by name, the maker's own mistakes included."""
    change, words = REFUSED[case]
    data = json.dumps(change(signed(statement(folder)), statement(folder))).encode()
    with pytest.raises(PackageError, match=words) as refused:
        made_by_key(public_pem(), data)
    assert str(refused.value).startswith("model.sig: ")


def test_another_key_is_refused_whatever_the_file_says(folder: Path) -> None:
    """With the hint, without one, and with the right key's hint over another key's signature."""
    with pytest.raises(SignatureError, match="signed by another key"):
        made_by_key(public_pem(), sign_folder(folder, OTHER_KEY))
    with pytest.raises(SignatureError, match="does not verify"):
        made_by_key(public_pem(), sign_folder(folder, OTHER_KEY, hint=None))
    forged = signed(statement(folder), OTHER_KEY)
    forged["verificationMaterial"] = signed(statement(folder))["verificationMaterial"]
    with pytest.raises(SignatureError, match="does not verify"):
        made_by_key(public_pem(), json.dumps(forged).encode())


def test_a_changed_list_is_not_read_before_its_signature_failed(folder: Path) -> None:
    """What an attacker wrote into the payload is never parsed."""
    made = signed(statement(folder))
    made["dsseEnvelope"]["payload"] = base64.b64encode(b"{" * 100).decode()
    with pytest.raises(SignatureError, match="does not verify"):
        made_by_key(public_pem(), json.dumps(made).encode())


def test_huge_deep_and_ambiguous_files_are_refused(folder: Path) -> None:
    """By size before they are parsed; by depth; and by a member that two readers may read in two ways."""
    data = sign_folder(folder)
    with pytest.raises(PackageError, match=f"more than {MAX_SIGNATURE_BYTES}"):
        made_by_key(public_pem(), data + b" " * MAX_SIGNATURE_BYTES)
    for hostile in (b"[" * 100_000, b"\xff", b"", b'{"mediaType": "a", ' + data[1:]):
        with pytest.raises(PackageError, match="the bundle is not JSON, or has a member twice"):
            made_by_key(public_pem(), hostile)
    twice = json.dumps(statement(folder)).encode()
    with pytest.raises(PackageError, match="the statement is not JSON, or has a member twice"):
        made_by_key(public_pem(), json.dumps(signed(b'{"_type": "a", ' + twice[1:])).encode())


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (b"", "expected a public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "expected a public key in PEM"),
        (public_pem(ec.derive_private_key(7, ec.SECP256K1())), "curve secp256k1"),
    ],
)
def test_what_is_no_key_of_model_signing_is_refused(folder: Path, pem: bytes, words: str) -> None:
    """Before the signature is judged."""
    with pytest.raises((InputError, PackageError), match=words):
        made_by_key(pem, sign_folder(folder, hint=None))


def test_no_seeded_mutation_says_something_else(folder: Path) -> None:
    """1,500 files with a byte changed, cut off or put in: refused as an error of ours, or the same statement."""
    data = sign_folder(folder)
    honest = ModelSignature.from_bytes(data).statement(KEY.public_key())
    source = random.Random(105)
    refused = 0
    for _ in range(1500):
        place, byte = source.randrange(len(data)), source.randrange(256)
        mutant = {
            0: data[:place] + bytes([byte]) + data[place + 1 :],
            1: data[:place],
            2: data[:place] + bytes([byte]) + data[place:],
        }[source.randrange(3)]
        try:
            assert ModelSignature.from_bytes(mutant).statement(KEY.public_key()) == honest
        except (PackageError, SignatureError):
            refused += 1
    assert refused > 1300


def test_a_package_whose_signature_was_changed_does_not_open(folder: Path) -> None:
    """The manifest names its bytes. So does a node refuse it."""
    published(folder, sign_folder(folder))
    file = folder.parent / "package" / "model.sig"
    honest = file.read_bytes()
    for hostile in (honest[:-1] + b" ", honest + b" ", sign_folder(folder, OTHER_KEY)):
        file.write_bytes(hostile)
        with pytest.raises(PackageError if len(hostile) > len(honest) else PackageDigestError, match=r"model\.sig"):
            open_plain_package(file.parent)
    file.unlink()
    with pytest.raises(PackageError, match=r"model\.sig: No such file"):
        open_plain_package(file.parent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"algorithm": "ecdsa-p384-sha384"}, "the manifest says ecdsa-p384-sha384 of a key on curve secp256r1"),
        ({"key": b"a key"}, "what the manifest calls its maker's key is none"),
        ({"certificate": "sha256:" + "00" * 32}, "its first certificate is not the one"),
        ({"certificate": None}, "differ in whether a certificate vouches"),
    ],
)
def test_what_a_manifest_says_of_a_maker_is_what_the_signature_shows(
    folder: Path, change: dict[str, Any], words: str
) -> None:
    """Key, curve and certificate are held against the file, one by one."""
    leaf = certificate("Vendor", KEY, "Vendor", KEY)
    data = sign_folder(folder, chain=(leaf,))
    said = digest(leaf.public_bytes(Encoding.DER))
    made = made_by(data, KEY.public_key(), subject="CN=Vendor", certificate=said, root=said)
    made.statement()
    with pytest.raises(PackageError, match=words):
        MadeBy(made.maker.model_copy(update=change), data).statement()


def test_a_certificate_whose_key_is_another_is_not_the_makers(folder: Path) -> None:
    """Whoever lays a vendor's certificate beside his own signature, and names his own key, is found."""
    leaf = certificate("Vendor", OTHER_KEY, "Vendor", OTHER_KEY)
    data = sign_folder(folder, chain=(leaf,))
    said = digest(leaf.public_bytes(Encoding.DER))
    made = made_by(data, KEY.public_key(), subject="CN=Vendor", certificate=said, root=said)
    with pytest.raises(PackageError, match="or has another key"):
        made.statement()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subject": "CN=Vendor"}, "subject, certificate and root go together"),
        ({"signature": BlobRef(digest="sha256:" + "00" * 32, size=MAX_SIGNATURE_BYTES + 1)}, "at most"),
        ({"key": b""}, "key"),
        ({"algorithm": "rsa"}, "algorithm"),
    ],
)
def test_a_manifest_has_no_half_a_maker(folder: Path, change: dict[str, Any], words: str) -> None:
    """Nor one whose signature no node would read."""
    made, _ = made_by_key(public_pem(), sign_folder(folder))
    said = {name: getattr(made.maker, name) for name in Maker.model_fields}
    with pytest.raises(ValidationError, match=words):
        Maker(**(said | change))


def test_a_model_that_computes_on_ciphertexts_has_no_maker(folder: Path) -> None:
    """Its parts are the publisher's own: he compiled them."""
    made, _ = made_by_key(public_pem(), sign_folder(folder))
    encrypted = make_manifest()
    with pytest.raises(ValidationError, match="maker goes with lane tee"):
        Manifest(**{name: getattr(encrypted, name) for name in Manifest.model_fields} | {"maker": made.maker})


def test_a_publisher_cannot_name_a_maker_who_did_not_sign(folder: Path, tmp_path: Path) -> None:
    """Another key beside the signature, or a signature over other files, is found by whoever has the package."""
    made, _ = made_by_key(public_pem(), sign_folder(folder))
    other, _ = made_by_key(public_pem(OTHER_KEY), sign_folder(folder, OTHER_KEY))
    lie = made.maker.model_copy(update={"key": other.maker.key})
    with pytest.raises(SignatureError, match="another key"):
        MadeBy(lie, made.data).statement()
    (folder / "config.json").write_text('{"a": 3}')
    elsewhere, _ = made_by_key(public_pem(), sign_folder(folder))
    package = tmp_path / "package"
    manifest = published(folder, elsewhere.data)
    forged = PUBLISHER.sign(manifest.document.model_copy(update={"maker": made.maker}))
    (package / "manifest.json").write_bytes(forged.envelope.to_bytes())
    (package / "model.sig").write_bytes(made.data)
    with pytest.raises(PackageDigestError, match=r"config\.json: its SHA-256"):
        open_plain_package(package)
