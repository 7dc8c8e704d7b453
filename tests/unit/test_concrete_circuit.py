"""A circuit's text is taken apart word by word before a compiler sees it."""

import pytest

from blindgate_models.concrete.circuit import check_circuit
from blindgate_protocol.errors import PackageError

CIRCUIT = """module {
  func.func @row(%arg0: tensor<1x3x!FHE.eint<3>>) -> tensor<1x3x!FHE.esint<4>> {
    %cst = arith.constant dense<"0x0000FF00"> : tensor<1x4xi2>
    %c-6_i5 = arith.constant -6 : i5
    %cst_0 = arith.constant dense<[[7, -6], [true, false]]> : tensor<8xi64>
    %0 = "FHELinalg.transpose"(%arg0) {axes = [1, 0], keep_dims = true} : (tensor<1x3x!FHE.eint<3>>) -> tensor<3x1xindex>
    %expanded = tensor.expand_shape %0 [[0, 1], [2]] : tensor<3x!FHE.eint<3>> into tensor<1x3x1x!FHE.eint<3>>
    return %expanded : tensor<1x3x!FHE.esint<4>>
  }
}
"""

ATTACKS = [
    pytest.param("llvm.func @system(!llvm.ptr) -> i32", "the word 'llvm.func'", id="a function of the C library"),
    pytest.param("func.func private @system(i64)", "the word 'private'", id="a function declared"),
    pytest.param("func.func @other() { return }", "one function", id="a second function"),
    pytest.param("func.call @row()", "the word 'func.call'", id="a call"),
    pytest.param("%9 = call @system(%0) : (i64) -> i64", "the word 'call'", id="a call in short"),
    pytest.param('"llvm.call"(%0) {callee = @system} : (i64) -> i64', "'llvm.call'", id="a call in the generic form"),
    pytest.param('"func.func"() ({ return }) : () -> ()', "'func.func'", id="a function in the generic form"),
    pytest.param('"FHE.add" (%0)', "the text 'FHE.add'", id="an operation apart from its arguments"),
    pytest.param('"FHE.add; llvm.x"(%0)', "operation", id="an operation with two names"),
    pytest.param("scf.while : () -> ()", "the word 'scf.while'", id="a loop"),
    pytest.param("memref.alloc() : memref<1xi8>", "the word 'memref.alloc'", id="memory"),
    pytest.param("linalg.generic", "the word 'linalg.generic'", id="another dialect"),
    pytest.param("%9 = arith.addi %0, %0 : i64", "the word 'arith.addi'", id="arithmetic that is not a constant"),
    pytest.param("!llvm.ptr<i8>", "the type '!llvm.ptr'", id="a pointer"),
    pytest.param("^bb0:", "no circuit holds", id="a block"),
    pytest.param("#map = affine_map<(d0) -> (d0)>", "no circuit holds", id="a map"),
    pytest.param("// a comment", "no circuit holds", id="a comment"),
    pytest.param('dense_resource<x> {- "x" -}', "dense_resource", id="a resource"),
    pytest.param("\u00e9", "not ASCII", id="not ASCII"),
]


def test_a_circuit_of_constants_and_concretes_operations_passes() -> None:
    """What Concrete writes is let through."""
    check_circuit(CIRCUIT, "row")


@pytest.mark.parametrize(("words", "message"), ATTACKS)
@pytest.mark.parametrize("before", ["module {", "  func.func @row", "    %0 =", "    return", "  }"])
def test_anything_else_is_refused_wherever_it_stands(words: str, message: str, before: str) -> None:
    """No word that could reach outside of the circuit gets to the compiler."""
    with pytest.raises(PackageError, match=message):
        check_circuit(CIRCUIT.replace(before, f"{words}\n{before}", 1), "row")


def test_the_function_is_the_one_that_the_parameters_name() -> None:
    """A circuit under another name would be looked up in vain, after it was compiled."""
    with pytest.raises(PackageError, match="named 'other'"):
        check_circuit(CIRCUIT, "other")
