"""Key stores and corpora that open at once: scrypt takes two rounds instead of 131,072, which are half a second each time.

Whatever imports this has such stores from then on: the tests' process, and the one that commands are forked from, so that both
open the same ones. A test that starts a process of another kind on a store needs `as_users_have_them`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from blindgate import keystore
from blindgate_rag import corpus_keys

ROUNDS: Final = keystore._SCRYPT_N
"""Of a user's store."""
CORPUS_ROUNDS: Final = corpus_keys._SCRYPT_N
"""Of a user's corpus."""
_FEWEST: Final = 2

keystore._SCRYPT_N = corpus_keys._SCRYPT_N = _FEWEST


@contextmanager
def as_users_have_them() -> Iterator[None]:
    """Make and open stores as users do."""
    keystore._SCRYPT_N, corpus_keys._SCRYPT_N = ROUNDS, CORPUS_ROUNDS
    try:
        yield
    finally:
        keystore._SCRYPT_N = corpus_keys._SCRYPT_N = _FEWEST
