"""The two halves of a secret product: exact numbers for every shape, refusals by name, and nothing that is used twice."""

from collections.abc import Callable

import numpy as np
import pytest

from blindgate_models.product.server import ProductServer
from blindgate_models.product.spec import Privacy
from blindgate_protocol.errors import CiphertextError, KeyStoreError, ResultError
from products import Product, product

HEADER = 44
MODES: list[Privacy] = ["model_private", "model_public"]


pytestmark = pytest.mark.usefixtures("arithmetic")


@pytest.fixture(scope="module")
def small(arithmetic: str) -> Product:
    """A private product of 40 inputs and 5 outputs."""
    return product(40, 5)


@pytest.mark.parametrize("privacy", MODES)
@pytest.mark.parametrize(
    ("inputs", "outputs", "plain_bits", "vectors"),
    [
        pytest.param(1, 1, 16, 1, id="one number"),
        pytest.param(1, 1, 16, 7, id="one number, seven times"),
        pytest.param(40, 1, 20, 3, id="one output"),
        pytest.param(1, 300, 16, 2, id="one input"),
        pytest.param(129, 257, 16, 1, id="past every power of two"),
        pytest.param(4096, 1, 16, 1, id="as many inputs as a polynomial has"),
        pytest.param(4097, 2, 16, 1, id="one more"),
        pytest.param(30, 5000, 20, 1, id="many outputs"),
        pytest.param(50, 3, 28, 2, id="a large modulus"),
    ],
)
def test_a_product_is_exact_for_every_shape(
    inputs: int, outputs: int, plain_bits: int, vectors: int, privacy: Privacy
) -> None:
    """The exact W·x + k modulo t, every number in its place, for bits and for any other inputs."""
    it = product(inputs, outputs, plain_bits=plain_bits, privacy=privacy)
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, (vectors, inputs))
    np.testing.assert_array_equal(it.ask(bits), it.expected(bits))


@pytest.mark.parametrize("privacy", MODES)
@pytest.mark.parametrize("rows", [[0], [1, 2], [0, 1, 2]])
def test_rows_of_zeros_are_exact_too(rows: list[int], privacy: Privacy) -> None:
    """A block of nothing but zeros has no ciphertext that SEAL would make; its outputs are the constants."""
    it = product(4096, 3, privacy=privacy)
    it.matrix[rows] = 0
    assert it.shape.blocks > 1 or privacy == "model_private"
    bits = np.random.default_rng(1).integers(0, 2, (2, 4096))
    np.testing.assert_array_equal(it.ask(bits), it.expected(bits))


def test_numbers_at_one_place_add_up() -> None:
    """A path that asks one bit twice has two masks on it."""
    it = product(4, 2)
    where = np.array([0, 0, 1]), np.array([2, 2, 3]), np.array([it.modulus - 1, 5, 7])
    zeros, vectors = it.server.open_input(it.client.encrypt(it.secret, np.array([[0, 0, 1, 1]])), 1)
    reply = it.server.reply(
        zeros,
        vectors[0],
        it.server.sparse_multipliers(*where),
        it.server.cover(it.server.constants(np.zeros(2, dtype=np.int64))),
    )
    np.testing.assert_array_equal(it.client.decrypt(it.secret, it.server.result([reply]), 1), [[4, 7]])


def test_a_cover_serves_one_reply(small: Product) -> None:
    """Two replies under one cover would differ by what it was to hide."""
    zeros, vectors = small.server.open_input(small.client.encrypt(small.secret, np.zeros((1, 40), dtype=np.int64)), 1)
    multipliers = small.server.multipliers(small.matrix)
    cover = small.server.cover(small.server.constants(small.constants))
    small.server.reply(zeros, vectors[0], multipliers, cover)
    with pytest.raises(RuntimeError, match="spent"):
        small.server.reply(zeros, vectors[0], multipliers, cover)


def test_two_replies_to_one_input_share_no_bytes_and_decrypt_alike(small: Product) -> None:
    """A job that is delivered twice meets another cover: the difference of both replies is noise."""
    blob = small.client.encrypt(small.secret, np.ones((1, 40), dtype=np.int64))
    first, second = small.answer(blob), small.answer(blob)
    same = np.frombuffer(first[HEADER:], np.uint8) == np.frombuffer(second[HEADER:], np.uint8)
    assert same.mean() < 0.05
    for result in (first, second):
        np.testing.assert_array_equal(
            small.client.decrypt(small.secret, result, 1), small.expected(np.ones((1, 40), dtype=np.int64))
        )


@pytest.mark.parametrize("privacy", MODES)
def test_lengths_follow_from_the_shape_and_the_number_of_vectors(privacy: Privacy) -> None:
    """Neither what is asked nor what the matrix holds moves a byte."""
    it = product(40, 300, privacy=privacy)
    empty = it._replace(matrix=np.zeros_like(it.matrix))
    for vectors in (1, 3):
        for asked in (np.zeros((vectors, 40), dtype=np.int64), np.ones((vectors, 40), dtype=np.int64)):
            blob = it.client.encrypt(it.secret, asked)
            assert len(blob) == it.shape.input_bytes(vectors)
            assert len(it.answer(blob)) == len(empty.answer(blob)) == it.shape.result_bytes(vectors)


def relabelled(blob: bytes, place: int, value: bytes) -> bytes:
    """The blob with other bytes at a place of its header."""
    return blob[:place] + value + blob[place + len(value) :]


WRONG: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("empty", lambda _: b"", "length"),
    ("cut in the header", lambda blob: blob[:43], "length"),
    ("cut short", lambda blob: blob[:-1], "length"),
    ("a byte more", lambda blob: blob + b"\0", "length"),
    ("twice", lambda blob: blob + blob, "length"),
    ("another magic", lambda blob: relabelled(blob, 0, b"XXXX"), "magic"),
    ("another version", lambda blob: relabelled(blob, 4, b"\2"), "version"),
    ("other reserved bytes", lambda blob: relabelled(blob, 6, b"\1"), "version"),
    ("no rows", lambda blob: relabelled(blob, 8, bytes(4)), "rows"),
    ("four billion rows", lambda blob: relabelled(blob, 8, b"\xff" * 4), "rows"),
    ("a row more", lambda blob: relabelled(blob, 8, (3).to_bytes(4, "little")), "length|rows"),
    ("another digest", lambda blob: relabelled(blob, 43, bytes([blob[43] ^ 1])), "digest"),
    ("words past the modulus", lambda blob: blob[:HEADER] + b"\xff" * (len(blob) - HEADER), "below|twice"),
]


@pytest.mark.parametrize(("wrong", "says"), [pytest.param(wrong, says, id=name) for name, wrong, says in WRONG])
@pytest.mark.parametrize("privacy", MODES)
def test_a_blob_that_is_none_is_refused_by_name(wrong: Callable[[bytes], bytes], says: str, privacy: Privacy) -> None:
    """Inputs by the node, results by the asker, in words that say which field, and never crash."""
    it = product(40, 5, privacy=privacy)
    blob = it.client.encrypt(it.secret, np.ones((2, 40), dtype=np.int64))
    with pytest.raises(CiphertextError, match=f"input: .*({says})"):
        it.server.open_input(wrong(blob), 2)
    result = it.answer(blob)
    if "below" in says and privacy == "model_public":
        return  # with so many bits dropped, every word of that length may be one
    with pytest.raises(ResultError, match=f"result: .*({says})"):
        it.client.decrypt(it.secret, wrong(result), 2)


def test_a_result_of_fewer_rows_is_refused(small: Product) -> None:
    """Before anything of it is decrypted."""
    result = small.answer(small.client.encrypt(small.secret, np.ones((2, 40), dtype=np.int64)))
    with pytest.raises(ResultError, match="rows: got 2, expected 3"):
        small.client.decrypt(small.secret, result, 3)


def test_a_blob_of_another_shape_or_purpose_is_refused(small: Product) -> None:
    """As long as it is: its digest names what it was made for."""
    blob = small.client.encrypt(small.secret, np.ones((1, 40), dtype=np.int64))
    for other in (
        small.shape._replace(purpose="search"),
        small.shape._replace(outputs=6),
        small.shape._replace(inputs=39),
        small.shape._replace(parameters=small.shape.parameters.model_copy(update={"dropped_c0": 0})),
    ):
        with pytest.raises(CiphertextError, match="digest"):
            ProductServer.of(other).open_input(blob, 1)


@pytest.mark.parametrize("privacy", MODES)
def test_a_seed_that_comes_twice_is_refused(privacy: Privacy) -> None:
    """Two columns of W may cancel each other over it. The refusal depends on the blob alone, and an honest one has no such."""
    it = product(5000, 1, privacy=privacy)
    assert it.shape.groups > 1
    blob = it.client.encrypt(it.secret, np.zeros((1, 5000), dtype=np.int64))
    with pytest.raises(CiphertextError, match="input: seeds: one comes twice"):
        it.server.open_input(blob[: HEADER + 64] + blob[HEADER : HEADER + 64] + blob[HEADER + 128 :], 1)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda secret: secret[:-1], id="cut short"),
        pytest.param(lambda secret: secret + secret, id="twice"),
        pytest.param(lambda secret: b"BGLK" + secret[4:], id="of another family"),
        pytest.param(lambda secret: secret[:4] + bytes(32) + secret[36:], id="other parameters"),
        pytest.param(lambda secret: secret[:36] + b"\xff" * (len(secret) - 36), id="words above the modulus"),
    ],
)
def test_a_secret_that_is_none_is_a_key_store_error(small: Product, wrong: Callable[[bytes], bytes]) -> None:
    """Nothing is encrypted or decrypted under bytes that are not this ring's key, and no message shows them."""
    bits = np.ones((1, 40), dtype=np.int64)
    result = small.answer(small.client.encrypt(small.secret, bits))
    for use in (
        lambda: small.client.encrypt(wrong(small.secret), bits),
        lambda: small.client.decrypt(wrong(small.secret), result, 1),
    ):
        with pytest.raises(KeyStoreError, match="secret key"):
            use()


def test_a_key_set_shows_no_secret(small: Product) -> None:
    """It is logged by accident sooner or later. There is no evaluation key to upload."""
    keys = small.client.make_keys()
    assert keys.evaluation is None
    assert "hidden" in repr(keys)
    assert keys.secret.hex()[80:120] not in repr(keys)
    assert repr(keys.secret)[50:80] not in repr(keys)


def test_products_over_one_ring_share_a_key(small: Product) -> None:
    """Whatever their shape, packing or purpose."""
    other = product(50, 4)
    assert other.shape.parameters.key_parameters == small.shape.parameters.key_parameters
    mixed = other._replace(secret=small.secret)
    bits = np.ones((1, 50), dtype=np.int64)
    np.testing.assert_array_equal(mixed.ask(bits), other.expected(bits))


def test_another_key_reads_noise(small: Product) -> None:
    """Numbers all over the modulus, and no error: an error would tell the node whose key it is."""
    bits = np.ones((20, 40), dtype=np.int64)
    result = small.answer(small.client.encrypt(small.secret, bits))
    got = small.client.decrypt(small.client.make_keys().secret, result, 20)
    assert (got != small.expected(bits)).mean() > 0.9


def test_progress_counts_every_polynomial(small: Product) -> None:
    """A progress bar reaches its end, once."""
    seen: list[tuple[int, int]] = []
    small.client.encrypt(small.secret, np.zeros((3, 40), dtype=np.int64), lambda *told: seen.append(told))
    total = small.shape.polynomials(3)
    assert seen == [(done, total) for done in range(1, total + 1)]
