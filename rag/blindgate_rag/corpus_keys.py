"""A corpus's key: how it seals a file, and how it rests itself.

*The passphrase* gives a key by scrypt (RFC 7914, N=2^17, r=8, p=1), which seals the corpus's own: so it can be changed without
sealing the corpus anew. What holds the sealed key, the header, has nothing secret, and lies beside the files that the key opens.
Whoever has it can try passphrases, at that price each.

*Every file* is a stream of `chunks` under a key of its own, which is bound to corpus, name and generation: one that was cut,
changed, or put in another's place does not open.
"""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import StringConstraints

from blindgate_protocol.canonical import canonical
from blindgate_protocol.canonical_values import CanonicalValue
from blindgate_protocol.chunks import STREAM_NONCE_BYTES, CorpusStream, Opener, Sealer
from blindgate_protocol.content_key import SECRET_BYTES, ContentKey
from blindgate_protocol.errors import CorpusError, MalformedError, SealError
from blindgate_protocol.padding import Padding
from blindgate_protocol.values import JobId
from blindgate_rag.passages import is_text

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**17, 8, 1
_NONCE_BYTES: Final = 12
_SALT_BYTES: Final = 16
_NONCE: Final = b"blindgate corpus nonce v1"
ENDING: Final = ".passphrase"
"""What the file with a corpus's own passphrase is called by, behind the corpus's name."""

KeyFrom = Literal["passphrase", "key"]
_Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){16,128}$")]


class KeyHeader(CanonicalValue):
    """Where a corpus's key rests: nothing secret, and held by the key's own seal."""

    most_bytes = 4096

    purpose: Literal["blindgate corpus v1"] = "blindgate corpus v1"
    corpus: JobId
    key_from: KeyFrom
    salt: _Hex
    sealed_key: _Hex

    @classmethod
    def fresh(cls, key_from: KeyFrom) -> Self:
        """One of a new corpus, around no key yet."""
        salt = secrets.token_hex(_SALT_BYTES)
        return cls(corpus=secrets.token_hex(16), key_from=key_from, salt=salt, sealed_key="0" * 32)

    def salted(self) -> Self:
        """The same corpus's, with another salt, for another passphrase."""
        return self.model_copy(update={"salt": secrets.token_hex(_SALT_BYTES), "key_from": "passphrase"})

    def around(self, key: ContentKey, outer: bytes) -> Self:
        """This header with the corpus's `key`, sealed by the outer one."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(outer).encrypt(nonce, key.secret(), self._bound())
        return self.model_copy(update={"sealed_key": sealed.hex()})

    def opened(self, outer: bytes, *, where: str, else_try: str = "") -> "CorpusKey":
        """The corpus's key. Raises `CorpusError` where the outer key is not its own.

        `where` says of what, for people, and `else_try` what would open it.
        """
        sealed = bytes.fromhex(self.sealed_key)
        try:
            secret = AESGCM(outer).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound())
            return CorpusKey(self.corpus, ContentKey(secret))
        except (InvalidTag, ValueError, MalformedError) as error:
            message = f"{where}: the {self.key_from} is not this corpus's, or its header was altered{else_try}"
            raise CorpusError(message) from error

    def outer_key(self, passphrase: str) -> bytes:
        """What a passphrase gives. Raises `CorpusError` for what is no text."""
        if not isinstance(passphrase, str) or not is_text(passphrase):
            message = "the passphrase is no text: where it was typed, the terminal's encoding is not UTF-8"
            raise CorpusError(message)
        kdf = Scrypt(salt=bytes.fromhex(self.salt), length=SECRET_BYTES, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
        return kdf.derive(passphrase.encode())

    def _bound(self) -> bytes:
        """What the seal of the key is bound to: all but itself."""
        return canonical(self.model_dump(mode="json", exclude={"sealed_key"}))


class CorpusKey:
    """The key of one corpus. Its repr shows none of it."""

    def __init__(self, corpus: str, content: ContentKey, padding: Padding | None = None) -> None:
        """Take the key of the `corpus` of this id; `padding` is of its files."""
        self.corpus = corpus
        self.content = content
        self._padding = padding or Padding()

    def padded(self, padding: Padding) -> "CorpusKey":
        """The same key, for files with this padding."""
        return CorpusKey(self.corpus, self.content, padding)

    def seal(self, name: str, generation: int, data: bytes) -> bytes:
        """A file's bytes, sealed."""
        return Sealer(self.content, self._stream(name, generation)).finish(data)

    def seal_again(self, name: str, generation: int, data: bytes) -> bytes:
        """A file's bytes, sealed, and sealed to the same each time, so that what was sent of it need not be sent again.

        The nonce follows from the key and all that is sealed: other bytes, or the same at another place, have another.
        """
        stream = self._stream(name, generation)
        nonce = self.content.derive(
            _NONCE + hashlib.sha256(data).digest() + stream.to_bytes(), length=STREAM_NONCE_BYTES
        )
        return Sealer(self.content, stream, draw=lambda _length: nonce).finish(data)

    def open(self, name: str, generation: int, sealed: bytes, *, where: str) -> bytes:
        """A file's bytes. Raises `CorpusError` where they are not those that were sealed as this file of this generation."""
        opener = Opener(self.content, self._stream(name, generation))
        try:
            data = b"".join(opener.feed(sealed))
            opener.finish()
        except SealError as error:
            message = f"{where}: {name} was altered: {error}"
            raise CorpusError(message) from error
        return data

    def _stream(self, name: str, generation: int) -> CorpusStream:
        return CorpusStream(corpus=self.corpus, file=name, generation=generation, padding=self._padding)

    def __repr__(self) -> str:
        return f"CorpusKey({self.corpus})"


def require_passphrase(passphrase: str) -> str:
    """A new passphrase, unless it is empty, as that of a variable that is not set. Raises `CorpusError`."""
    if not passphrase:
        message = "the passphrase is empty: give one, or none at all, and a random one is made"
        raise CorpusError(message)
    return passphrase


def own_passphrase_file(folder: Path) -> Path:
    """Where the passphrase lies of a corpus whose owner gave none: beside its folder, or beside a link that leads to that."""
    given, meant = (Path(f"{where}{ENDING}") for where in (folder.absolute(), folder.resolve()))  # `/` has no name
    try:
        return meant if meant.is_file() and not given.exists() else given
    except OSError:  # too long a name: opening the corpus, or making it, says so
        return given


def own_passphrase(folder: Path, *, make: bool) -> str:
    """The random passphrase of a corpus whose owner gave none. Raises `CorpusError` where there is none and none is to be made."""
    path = own_passphrase_file(folder)
    try:
        if found := path.read_text().strip():  # an editor may have ended the line
            return found
    except FileNotFoundError:
        if not make:
            message = (
                f"{folder} is sealed with a passphrase: give it, or set BLINDGATE_CORPUS_PASSPHRASE. One that was made for "
                f"it lies as {path.name} beside where the folder was"
            )
            raise CorpusError(message) from None
    except IsADirectoryError:
        message = f"{path} is a folder, and a passphrase would be kept there: give one"
        raise CorpusError(message) from None
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise CorpusError(message) from error
    except UnicodeDecodeError:
        message = f"{path}: is no passphrase: it is not UTF-8"
        raise CorpusError(message) from None
    else:
        message = f"{path}: the passphrase that should be in it is not there: it is empty"
        raise CorpusError(message)
    made = secrets.token_urlsafe(32)
    write_whole(path, made.encode())
    return made


def without_passphrase(folder: Path, passphrase: str | None) -> str:
    """What to try where a passphrase does not open a corpus that has a random one of its own; nothing where that is not so."""
    path = own_passphrase_file(folder)
    if passphrase is None or not path.exists():
        return ""
    return f". It opens without one, by {path}: give none, and no BLINDGATE_CORPUS_PASSPHRASE"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, and past a power cut. Raises `CorpusError`."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise CorpusError(message) from error
