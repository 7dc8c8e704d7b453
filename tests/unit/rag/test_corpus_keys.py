"""A corpus's key at rest: what guessing its passphrase costs, and what no seal of it shares with another."""

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blindgate_protocol.canonical import canonical
from blindgate_protocol.content_key import ContentKey
from blindgate_protocol.errors import CorpusError
from blindgate_rag.corpus_keys import CorpusKey, KeyHeader
from quick_stores import as_users_have_them

OUTER = bytes(range(32))


def test_a_guess_at_a_passphrase_costs_what_is_said() -> None:
    """128 MiB of memory and half a second: what Python's own scrypt gives at that price opens the key, and holds the header."""
    own, header = ContentKey.generate(), KeyHeader.fresh("passphrase")
    with as_users_have_them():
        header = header.around(own, header.outer_key("pass"))
    said = header.model_dump(mode="json")
    sealed, salt = bytes.fromhex(said.pop("sealed_key")), bytes.fromhex(said["salt"])
    outer = hashlib.scrypt(b"pass", salt=salt, n=2**17, r=8, p=1, maxmem=1 << 28, dklen=32)
    assert AESGCM(outer).decrypt(sealed[:12], sealed[12:], canonical(said)) == own.secret()


def test_no_two_seals_of_a_key_have_a_salt_or_a_nonce_in_common() -> None:
    """One table of guesses is of one corpus, and of one passphrase of it."""
    own = ContentKey.generate()
    headers = [KeyHeader.fresh("passphrase").around(own, OUTER) for _ in range(4)]
    headers += [headers[0].salted().around(own, OUTER) for _ in range(4)]
    assert len({one.salt for one in headers}) == len(headers)
    again = [headers[0].around(own, OUTER) for _ in range(4)]
    assert len({one.sealed_key[:24] for one in (*headers, *again)}) == len(headers) + len(again)


def test_a_file_of_one_corpus_is_none_of_another_under_the_same_key() -> None:
    """Whoever keeps both folders under one key of a key store: their own keys differ, and their files are bound besides."""
    own = ContentKey.generate()
    one, other = CorpusKey("1" * 32, own), CorpusKey("2" * 32, own)
    assert one.open("records", 1, one.seal("records", 1, b"text"), where="notes") == b"text"
    with pytest.raises(CorpusError, match="notes: records was altered"):
        other.open("records", 1, one.seal("records", 1, b"text"), where="notes")


def test_a_key_is_not_shown() -> None:
    """By no repr, in no form."""
    own = ContentKey.generate()
    shown = repr(CorpusKey("1" * 32, own))
    assert own.secret().hex() not in shown
    assert repr(own.secret()) not in shown
