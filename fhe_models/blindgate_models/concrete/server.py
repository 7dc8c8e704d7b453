"""The server half of a Concrete model: compile the circuit, evaluate rows.

Concrete's own loader runs code from the file it loads: its configuration goes through jsonpickle, and a package may
hold a
shared object. Here a part carries the circuit's text and a handful of numbers, and in this order:

1. the part's members are checked, and that concrete-python is the release that the part names;
2. the circuit's text is checked word by word (`circuit`): nothing in it can name a function outside it;
3. it is compiled into a private folder, which is removed: this runs `ld`, and loads what it made;
4. the parameters that compiling arrived at are compared with those that the part declares, which the client encrypts
   for.

`evaluate` checks header, size and frame of the key and of every row before native code reads them. What native code may
still do with bytes that pass ends the process it runs in: the node gives each job a process of its own.

Whoever starts that process sets `OMP_NUM_THREADS=1`: Concrete takes every core otherwise, and a forked child of a
process that ran two threads hangs. Nothing here starts a thread before the first evaluation.
"""

import json
import tempfile
from collections.abc import Callable
from typing import Any, Final, Never, Self

from pydantic import Field

from blindgate_models.concrete.circuit import MAX_CIRCUIT_BYTES, check_circuit
from blindgate_models.concrete.runtime import check_version, load_runtime, signals_kept
from blindgate_models.concrete.spec import (
    CIPHERTEXT_MAGIC,
    EVALUATION_MAGIC,
    RESULT_MAGIC,
    Frame,
    Specs,
    StrictModel,
    pack_header,
    read_model,
    read_specs,
    split_rows,
    unpack_header,
)
from blindgate_models.halves import Part
from blindgate_protocol.errors import CiphertextError, EvaluationKeyError, PackageError

SECURITY_BITS: Final = 128


class ServerPart(StrictModel):
    """The server part, `server.json`.

    `p_error` is the chance that one bootstrap goes wrong. Every other compiler setting is fixed below: a part cannot
    lower the security level or switch compression off.
    """

    concrete_python: str = Field(max_length=40)
    specs: Part
    circuit: str = Field(max_length=MAX_CIRCUIT_BYTES)
    p_error: float = Field(gt=0, le=2**-20)
    evaluation_key: Frame | None
    ciphertext: Frame


class ConcreteServer:
    """`ServerHalf` for the family `concrete`."""

    def __init__(self, part: ServerPart, specs: Specs, library: Any) -> None:
        """Use `from_part`, which checks and compiles what stands in the part."""
        runtime = load_runtime()
        self._part = part
        self._specs = specs
        self._library = library
        self._circuit = runtime.ServerProgram(library, False).get_server_circuit(specs.function)  # noqa: FBT003

    @classmethod
    def from_part(cls, part: Part) -> Self:
        """Check and compile the server part, in 0.1 to 3 s. Raises `PackageError` naming the member that is wrong."""
        parsed = read_model(ServerPart, part)  # 1
        check_version(parsed.concrete_python)
        specs = read_specs(parsed.specs)
        if (specs.evaluation_keys == 0) != (parsed.evaluation_key is None):
            _refuse("evaluation_key: expected a frame exactly if the key set holds keys to evaluate with")
        check_circuit(parsed.circuit, specs.function)  # 2
        with tempfile.TemporaryDirectory(prefix="blindgate-") as folder:  # 3
            server = cls(parsed, specs, compile_circuit(parsed.circuit, parsed.p_error, folder))
        if server.compiled_specs() != parsed.specs:  # 4
            _refuse("specs: not the parameters that the circuit compiles to")
        return server

    def compiled_specs(self) -> Part:
        """The parameters that compiling arrived at."""
        specs: Part = json.loads(self._library.get_program_info().serialize())
        return specs

    def prepare(self) -> None:
        """Nothing: all that a job needs is there once the part is read."""

    def rows(self, ciphertexts: bytes) -> int:
        """How many rows an input blob holds. Raises `CiphertextError`."""
        return len(split_rows(ciphertexts, CIPHERTEXT_MAGIC, self._specs, self._part.ciphertext, CiphertextError))

    def evaluate(self, evaluation_key: bytes | None, ciphertexts: bytes) -> bytes:
        """Compute on one blob of rows, one after the other. Seconds a row; the GIL is released.

        Raises `CiphertextError` or `EvaluationKeyError` on bytes that are not what the parameters ask for.
        """
        rows = split_rows(ciphertexts, CIPHERTEXT_MAGIC, self._specs, self._part.ciphertext, CiphertextError)
        return self._run(self._read_key(load_runtime(), evaluation_key), rows)

    def direct(self, evaluation_key: bytes | None) -> Callable[[bytes], bytes]:
        """`evaluate` under one key that stays parsed in memory. Raises `EvaluationKeyError`; the function, `CiphertextError`.

        The key's first use expands it, in 0.5 to 2 s and to several times its size; later uses do not, and neither do
        those in children forked after it.
        """
        key = self._read_key(load_runtime(), evaluation_key)

        def evaluate(ciphertexts: bytes) -> bytes:
            rows = split_rows(ciphertexts, CIPHERTEXT_MAGIC, self._specs, self._part.ciphertext, CiphertextError)
            return self._run(key, rows)

        return evaluate

    def _run(self, key: Any, rows: list[bytes]) -> bytes:
        runtime = load_runtime()
        blob = [pack_header(RESULT_MAGIC, self._specs.digest, len(rows))]
        with signals_kept():
            for row in rows:
                try:
                    value = runtime.TransportValue.deserialize(row)
                    (result,) = self._circuit.call([value], key)
                except RuntimeError as error:
                    msg = "ciphertext: not a value of this circuit"
                    raise CiphertextError(msg) from error
                blob.append(result.serialize())
        return b"".join(blob)

    def _read_key(self, runtime: Any, evaluation_key: bytes | None) -> Any:
        frame = self._part.evaluation_key
        if frame is None:
            if evaluation_key is not None:
                msg = "evaluation key: this circuit needs none"
                raise EvaluationKeyError(msg)
            # Concrete asks for a key set all the same: one without keys.
            return runtime.Keyset(self._library.get_program_info(), None).get_server_keys()
        if evaluation_key is None:
            msg = "evaluation key: this circuit needs one"
            raise EvaluationKeyError(msg)
        _, body = unpack_header(evaluation_key, EVALUATION_MAGIC, self._specs.keyset_digest, EvaluationKeyError, 1)
        if len(body) != frame.size:
            msg = f"evaluation key: got {len(body)} bytes, expected {frame.size}"
            raise EvaluationKeyError(msg)
        if not frame.fits(body):
            msg = "evaluation key: not a key set of this circuit's parameters"
            raise EvaluationKeyError(msg)
        try:
            return runtime.ServerKeyset.deserialize(bytes(body))
        except RuntimeError as error:
            msg = "evaluation key: does not parse"
            raise EvaluationKeyError(msg) from error


def compile_circuit(circuit: str, p_error: float, folder: str) -> Any:
    """Compile a circuit's text to a library in `folder`, which may be removed once the library is in use.

    Raises `PackageError` when it does not compile.
    """
    runtime = load_runtime()
    options = runtime.CompilationOptions(runtime.Backend.CPU)
    options.simulation(False)  # noqa: FBT003
    options.set_loop_parallelize(True)
    options.set_dataflow_parallelize(False)
    options.set_auto_parallelize(False)
    options.set_composable(False)
    options.set_compress_evaluation_keys(True)
    options.set_compress_input_ciphertexts(True)
    options.set_enable_tlu_fusing(True)
    options.set_global_p_error(1.0)
    options.set_p_error(p_error)
    options.set_security_level(SECURITY_BITS)
    options.set_optimizer_strategy(runtime.OptimizerStrategy.DAG_MULTI)
    options.set_optimizer_multi_parameter_strategy(runtime.OptimizerMultiParameterStrategy.PRECISION)
    compiler = runtime.Compiler(
        folder,
        runtime.lookup_runtime_lib(),
        generate_shared_lib=True,
        generate_program_info=True,
        generate_compilation_feedback=True,
    )
    try:
        return compiler.compile(circuit, options)
    except RuntimeError as error:
        msg = "circuit: Concrete does not compile it (it needs `ld`, of binutils)"
        raise PackageError(msg) from error


def _refuse(why: str) -> Never:
    raise PackageError(why)
