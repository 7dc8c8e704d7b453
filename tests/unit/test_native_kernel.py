"""The kernel in C: which library is used, which arrays are taken, and when it is left aside."""

import hashlib
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blindgate_models.native import kernel as native
from blindgate_models.native.kernel import LIBRARY, SETTING, SOURCE, TILE, Kernel, Moduli, Words, kernel
from blindgate_models.product.arithmetic import arithmetic_over
from blindgate_models.product.kernel_arithmetic import KernelArithmetic
from blindgate_models.product.seal_arithmetic import SealArithmetic
from blindgate_models.seal.bfv import Ring

DEGREE, PRIME = 16, 97
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The kernel."""
    monkeypatch.delenv(SETTING, raising=False)
    found = kernel()
    if found is None:
        pytest.skip("no kernel was compiled here")
    return found


@pytest.fixture
def moduli() -> Moduli:
    """Those of the smallest ring."""
    return Moduli.of([PRIME], DEGREE, 17)


def zeros(*shape: int) -> Words:
    """Words, all zero."""
    return np.zeros(shape, dtype=np.uint64)


def test_a_setting_leaves_the_kernel_aside(compiled: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEAL computes then; another setting is an error, not a guess."""
    ring = Ring(2048, [54], 257)
    assert isinstance(arithmetic_over(ring, 5), KernelArithmetic)
    monkeypatch.setenv(SETTING, "sealapi")
    assert isinstance(arithmetic_over(ring, 5), SealArithmetic)
    monkeypatch.setenv(SETTING, "off")
    with pytest.raises(ValueError, match="got 'off'"):
        kernel()


def test_seal_computes_for_few_outputs(compiled: Kernel) -> None:
    """It is quicker there."""
    assert isinstance(arithmetic_over(Ring(2048, [54], 257), 4), SealArithmetic)


def test_seal_computes_where_a_prime_is_below_the_plain_modulus(compiled: Kernel) -> None:
    """No parameters with room to decrypt are so, and the kernel was not made for it."""
    assert isinstance(arithmetic_over(Ring(4096, [38, 54], (1 << 40) - 87), 5), SealArithmetic)


def library(folder: Path, text: str, *given: str) -> Path:
    """A library of other source."""
    source, made = folder / "other.c", folder / "other.so"
    source.write_text(text)
    subprocess.run(["cc", "-shared", "-fPIC", *given, "-o", made, source], check=True)
    return made


@needs_compiler
@pytest.mark.parametrize(
    "text",
    [
        pytest.param('const char *blindgate_kernel_digest(void) { return "0123"; }', id="of another source"),
        pytest.param("int blindgate_kernel_transform;", id="that tells no digest"),
    ],
)
def test_a_library_of_another_source_is_not_used(text: str, tmp_path: Path) -> None:
    """A stale one would compute something else. It is left aside aloud."""
    with pytest.warns(RuntimeWarning, match="not compiled from"):
        assert native._loaded(library(tmp_path, text)) is None


def test_a_file_that_is_no_library_is_not_used(tmp_path: Path) -> None:
    """Of another platform, or cut short."""
    (tmp_path / "cut.so").write_bytes(b"\x7fELF")
    with pytest.warns(RuntimeWarning, match="not compiled from"):
        assert native._loaded(tmp_path / "cut.so") is None


@needs_compiler
def test_a_library_of_this_source_is_used_wherever_it_lies(tmp_path: Path) -> None:
    """And none is no reason for a warning."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    made = library(tmp_path, SOURCE.read_text(), "-std=c11", f'-DSOURCE_DIGEST="{digest}"')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(native._loaded(made), Kernel)
        assert native._loaded(tmp_path / "none.so") is None


@needs_compiler
def test_what_an_editable_install_compiled_is_of_this_source() -> None:
    """`make` compiles again when the source has changed."""
    assert LIBRARY.exists()
    assert native._loaded(LIBRARY) is not None


@pytest.mark.parametrize(
    ("primes", "degree", "modulus"),
    [
        pytest.param([], 16, 17, id="no prime"),
        pytest.param([97], 16, 97, id="a plain modulus of the prime's size"),
        pytest.param([101], 16, 17, id="a prime without such a root"),
        pytest.param([97], 8, 17, id="polynomials shorter than two tiles"),
        pytest.param([97], 24, 17, id="a degree that is no power of two"),
        pytest.param([(1 << 57) - 1], 16, 17, id="a modulus of too many bits"),
        pytest.param([786433], 16384, 17, id="polynomials longer than the kernel's"),
    ],
)
def test_a_ring_that_the_kernel_was_not_made_for_is_refused(primes: list[int], degree: int, modulus: int) -> None:
    """Here, and not in C."""
    with pytest.raises(ValueError, match="got"):
        Moduli.of(primes, degree, modulus)


def transformed(given: Any, words: Any, start: int = 0) -> Callable[[Kernel, Moduli], object]:
    """A call of `transform`."""
    return lambda compiled, moduli: compiled.transform(given, moduli, words, start)


def added(matrix: Any, vector: Any, sums: Any) -> Callable[[Kernel, Moduli], object]:
    """A call of `add_products`."""
    return lambda compiled, moduli: compiled.add_products(matrix, vector, moduli, sums)


def finished(sums: Any, more: Any) -> Callable[[Kernel, Moduli], object]:
    """A call of `finish`."""
    return lambda compiled, moduli: compiled.finish(sums, more, moduli)


COEFFICIENTS = np.zeros((2, DEGREE), dtype=np.int64)
MATRIX, VECTOR, SUMS = zeros(1, 2, 3, 2, TILE), zeros(2, 2, 1, DEGREE), zeros(3, 2, 1, DEGREE)
FROZEN = zeros(1, 2, 2, TILE)
FROZEN.flags.writeable = False

WRONG = [
    pytest.param(transformed(COEFFICIENTS.astype(np.int32), zeros(1, 2, 2, TILE)), id="coefficients of 32 bits"),
    pytest.param(transformed(COEFFICIENTS[:, ::2], zeros(1, 2, 2, TILE)), id="fewer coefficients, at a stride"),
    pytest.param(transformed(COEFFICIENTS.T.copy().T, zeros(1, 2, 2, TILE)), id="columns first"),
    pytest.param(transformed(COEFFICIENTS, zeros(1, 2, 1, TILE)), id="room for one of two"),
    pytest.param(transformed(COEFFICIENTS, zeros(1, 2, 3, TILE), 2), id="a start past what there is room for"),
    pytest.param(transformed(COEFFICIENTS, zeros(1, 2, 3, TILE), -1), id="a start before the first"),
    pytest.param(transformed(COEFFICIENTS, zeros(2, 2, 2, TILE)), id="words of another ring"),
    pytest.param(transformed(COEFFICIENTS, zeros(1, 2, 2, TILE).astype(np.int64)), id="signed words"),
    pytest.param(transformed(COEFFICIENTS, FROZEN), id="words that may not be written"),
    pytest.param(transformed(COEFFICIENTS + 17, zeros(1, 2, 2, TILE)), id="a coefficient of t"),
    pytest.param(transformed(COEFFICIENTS - 17, zeros(1, 2, 2, TILE)), id="a coefficient of -t"),
    pytest.param(transformed(COEFFICIENTS - 2**63, zeros(1, 2, 2, TILE)), id="the least number"),
    pytest.param(added(MATRIX, VECTOR[:1], SUMS), id="fewer groups"),
    pytest.param(added(MATRIX, VECTOR, SUMS[:2]), id="fewer blocks"),
    pytest.param(added(MATRIX[:, :1], VECTOR, SUMS), id="fewer tiles"),
    pytest.param(added(MATRIX, VECTOR[..., :8], SUMS), id="a shorter vector"),
    pytest.param(added(MATRIX.astype(float), VECTOR, SUMS), id="floats"),
    pytest.param(finished(SUMS, SUMS[:2]), id="less to add"),
    pytest.param(finished(zeros(3, 2, 2, DEGREE), zeros(3, 2, 2, DEGREE)), id="sums modulo other primes"),
    pytest.param(finished(SUMS.astype(">u8"), SUMS), id="the other byte order"),
]


@pytest.mark.parametrize("call", WRONG)
def test_arrays_that_do_not_fit_never_reach_c(
    call: Callable[[Kernel, Moduli], object], compiled: Kernel, moduli: Moduli
) -> None:
    """Lengths, types, order, bounds: each is a `ValueError`."""
    with pytest.raises(ValueError, match=r"got|below"):
        call(compiled, moduli)
