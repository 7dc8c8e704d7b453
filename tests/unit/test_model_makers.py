"""Whom a publisher believes for a maker: a certificate under the root that he names, or a key, and nobody else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from blindgate.commands.models import app
from blindgate.model_makers import made_by_certificate, made_by_key
from blindgate_models.plain_packages import open_plain_package, publish_plain
from blindgate_node.packages import Packages
from blindgate_node.plain_models import load_models
from blindgate_node.settings import Settings
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import BlindgateError, InputError, PackageDigestError, PackageError, SignatureError
from brokerage import now_ms
from made_signatures import KEY, OTHER_KEY, certificate, public_pem, sign_folder, write_model
from signed_packages import PUBLISHER

ROOT_KEY, MIDDLE_KEY = ec.derive_private_key(1001, ec.SECP384R1()), ec.derive_private_key(1002, ec.SECP256R1())
ROOT = certificate("root", ROOT_KEY, "root", ROOT_KEY, authority=True)
MIDDLE = certificate("middle", MIDDLE_KEY, "root", ROOT_KEY, authority=True)
LEAF = certificate("Vendor", KEY, "middle", MIDDLE_KEY)
OTHER_ROOT = certificate("other", OTHER_KEY, "other", OTHER_KEY, authority=True)
NAMESAKE = certificate("root", OTHER_KEY, "root", OTHER_KEY, authority=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, not signed yet."""
    return write_model(tmp_path / "model")


def pem(*certificates: x509.Certificate) -> bytes:
    """A file of certificates."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


@pytest.mark.parametrize("chain", [(LEAF, MIDDLE), (LEAF, MIDDLE, ROOT)], ids=["without the root", "with the root"])
def test_a_certificate_under_the_named_root_tells_who_the_maker_is(
    folder: Path, chain: Sequence[x509.Certificate]
) -> None:
    """The subject, the certificate's digest and the root's are stated."""
    data = sign_folder(folder, chain=chain)
    made, statement = made_by_certificate(pem(OTHER_ROOT, ROOT), data, now=now_ms(), subject="CN=Vendor")
    assert (made.maker.subject, made.maker.root) == ("CN=Vendor", digest(ROOT.public_bytes(Encoding.DER)))
    assert made.maker.certificate == digest(LEAF.public_bytes(Encoding.DER))
    assert made.statement() == statement


def test_a_certificate_that_signed_itself_is_its_own_root(folder: Path) -> None:
    """A maker without an authority hands out his certificate."""
    alone = certificate("Vendor", KEY, "Vendor", KEY)
    made, _ = made_by_certificate(pem(alone), sign_folder(folder, chain=(alone,)), now=now_ms())
    assert made.maker.root == made.maker.certificate


def _leaf(**said: Any) -> tuple[x509.Certificate, ...]:
    return certificate("Vendor", KEY, "middle", MIDDLE_KEY, **said), MIDDLE


_UNREAD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
BELOW_LEAF = certificate("Vendor", KEY, "Helper", OTHER_KEY)
HELPER = certificate("Helper", OTHER_KEY, "middle", MIDDLE_KEY)
REFUSED: dict[str, tuple[tuple[x509.Certificate, ...], x509.Certificate, str]] = {
    "another root": ((LEAF, MIDDLE), OTHER_ROOT, "its chain ends below 'CN=root', and the roots given are 'CN=other'"),
    "a root of the same name": ((LEAF, MIDDLE), NAMESAKE, "does not verify under CN=root"),
    "a root that it brought": ((LEAF, MIDDLE, ROOT), OTHER_ROOT, "the roots given are 'CN=other'"),
    "a link missing": ((LEAF,), ROOT, "its chain ends below 'CN=middle'"),
    "the wrong order": ((MIDDLE, LEAF), ROOT, "its chain ends below 'CN=middle'"),
    "signed by no authority": ((BELOW_LEAF, HELPER, MIDDLE), ROOT, "may not sign certificates"),
    "ended": (_leaf(days=(-30, -1)), ROOT, "is valid from .* and not on"),
    "to come": (_leaf(days=(1, 30)), ROOT, "is valid from .* and not on"),
    "not for signing": (_leaf(digital_signature=False), ROOT, "is not for signing code"),
    "for servers": (_leaf(extended=ExtendedKeyUsageOID.SERVER_AUTH), ROOT, "is not for signing code"),
    "what is not read": (_leaf(critical=_UNREAD), ROOT, "critical extension 1.2.3.4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_chain_that_proves_nothing_is_refused_by_its_rule(folder: Path, case: str) -> None:
    """The error says which certificate and what of it."""
    chain, root, words = REFUSED[case]
    with pytest.raises(SignatureError, match=words):
        made_by_certificate(pem(root), sign_folder(folder, chain=chain), now=now_ms())


def test_another_subject_under_the_same_root_is_refused(folder: Path) -> None:
    """A public authority vouches for many."""
    data = sign_folder(folder, chain=(LEAF, MIDDLE))
    with pytest.raises(SignatureError, match="signed by 'CN=Vendor', expected 'CN=Vendor Inc'"):
        made_by_certificate(pem(ROOT), data, now=now_ms(), subject="CN=Vendor Inc")


def test_a_certificate_beside_another_keys_signature_is_refused(folder: Path) -> None:
    """Certificates are public: anybody can lay one beside his own signature."""
    with pytest.raises(SignatureError, match="does not verify"):
        made_by_certificate(pem(ROOT), sign_folder(folder, OTHER_KEY, chain=(LEAF, MIDDLE)), now=now_ms())


def test_a_key_is_not_asked_for_a_certificate_nor_a_root_for_a_key(folder: Path) -> None:
    """The error says which option it is."""
    with pytest.raises(SignatureError, match="--signer-root"):
        made_by_key(public_pem(), sign_folder(folder, chain=(LEAF, MIDDLE)))
    with pytest.raises(SignatureError, match="--signer-key"):
        made_by_certificate(pem(ROOT), sign_folder(folder), now=now_ms())
    with pytest.raises(InputError, match="the signer's root"):
        made_by_certificate(b"-----BEGIN", sign_folder(folder), now=now_ms())


@pytest.fixture
def files(tmp_path: Path, folder: Path) -> dict[str, Path]:
    """What a publisher has: the signed folder, the maker's key and root."""
    (folder / "model.sig").write_bytes(sign_folder(folder, chain=(LEAF, MIDDLE)))
    (tmp_path / "bare.sig").write_bytes(sign_folder(folder))
    (tmp_path / "vendor.pem").write_bytes(public_pem())
    (tmp_path / "root.pem").write_bytes(pem(ROOT))
    return {"model": folder, **{name: tmp_path / name for name in ("bare.sig", "vendor.pem", "root.pem", "out")}}


def run(home: Path, *words: object, code: int = 0) -> Any:
    """What `blindgate models …` prints, or raises."""
    env = {"BLINDGATE_HOME": str(home), "BLINDGATE_PASSPHRASE": "a passphrase"}
    result = CliRunner().invoke(app, [str(word) for word in words], env=env)
    if isinstance(result.exception, BlindgateError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_publisher_packages_what_a_vendor_signed_and_anybody_sees_whose_it_is(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """`package` with a root, then `show` on the folder."""
    said = ("package", files["model"], "--name", "chat", "--kind", "causal-lm", "-o", files["out"])
    signer = ("--signature", files["model"] / "model.sig", "--signer-root", files["root.pem"])
    made = json.loads(run(tmp_path / "home", *said, *signer, "--signer-subject", "CN=Vendor", "--json"))
    assert made["left_out"] == "model.sig"
    assert made["made_by"].startswith("CN=Vendor, ecdsa-p256-sha256 key sha256:")
    shown = " ".join(run(tmp_path / "home", "show", files["out"]).split())
    assert f"made by {made['made_by']}, by the publisher's word" in shown
    maker = json.loads(run(tmp_path / "home", "show", files["out"], "--json"))["maker"]
    assert maker["subject"] == "CN=Vendor"


def test_a_bare_key_packages_too(files: dict[str, Path], tmp_path: Path) -> None:
    """The other way that Model Signing has. The folder's own, older signature is no file of the model's: it has to go."""
    said = ("package", files["model"], "--name", "chat", "--kind", "causal-lm", "-o", files["out"])
    signer = ("--signature", files["bare.sig"], "--signer-key", files["vendor.pem"])
    with pytest.raises(BlindgateError, match=r"model\.sig: expected one of"):
        run(tmp_path / "home", *said, *signer)
    (files["model"] / "model.sig").unlink()
    run(tmp_path / "home", *said, *signer)
    maker = open_plain_package(files["out"]).manifest.document.maker
    assert maker is not None
    assert maker.subject is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "model.sig: who made this model signed its folder: give --signature"),
        (["--signer-key", "vendor.pem"], "go with --signature"),
        (["--signature", "bare.sig"], "--signature goes with --signer-key, or with --signer-root"),
        (
            ["--signature", "bare.sig", "--signer-key", "vendor.pem", "--signer-root", "root.pem"],
            "--signature goes with",
        ),
        (
            ["--signature", "bare.sig", "--signer-key", "vendor.pem", "--signer-subject", "CN=A"],
            "--signature goes with",
        ),
    ],
)
def test_a_signature_is_neither_passed_over_nor_half_verified(
    files: dict[str, Path], tmp_path: Path, options: list[str], words: str
) -> None:
    """A signed folder is not packaged without a look at its signature, and no signature without somebody to believe."""
    said = ("package", files["model"], "--name", "chat", "--kind", "causal-lm", "-o", files["out"])
    with pytest.raises(InputError, match=words):
        run(tmp_path / "home", *said, *(files.get(option, option) for option in options))
    assert not files["out"].exists()


def loaded(tmp_path: Path) -> int:
    """How many models a node loads from `tmp_path / "models"`."""
    settings = Settings(
        data=tmp_path / "node",
        gateway="http://127.0.0.1:9",
        models=tmp_path / "models",
        upstream="http://127.0.0.1:9",
    )
    packages = Packages(tmp_path / "node" / "packages", publishers={PUBLISHER.id}, most_bytes=1000)
    return len(load_models(settings, packages, now_ms(), lambda *_, **__: None))


def test_a_node_loads_no_model_whose_makers_signature_is_gone_or_another(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """It verifies the signature at load, under the key that the manifest names, and says in which folder it failed."""
    made, _ = made_by_key(files["vendor.pem"].read_bytes(), files["bare.sig"].read_bytes())
    (files["model"] / "model.sig").unlink()
    (tmp_path / "models").mkdir()
    package = tmp_path / "models" / "chat"
    publish_plain(
        files["model"],
        package,
        PUBLISHER,
        name="chat",
        version=1,
        kind="upstream",
        served_as="chat",
        issued=now_ms() - 1000,
        made_by=made,
    )
    assert loaded(tmp_path) == 1
    signature = package / "model.sig"
    signature.write_bytes(sign_folder(files["model"]))
    with pytest.raises((PackageError, PackageDigestError), match=r"chat: model\.sig: "):
        loaded(tmp_path)
    signature.unlink()
    with pytest.raises(PackageError, match=r"chat: model\.sig: No such file"):
        loaded(tmp_path)
