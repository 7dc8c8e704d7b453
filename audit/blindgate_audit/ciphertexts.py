"""Where a job's ciphertexts lie: each where an option says, and otherwise in one folder, under its digest.

A client that keeps ciphertexts lays them into the folder `CIPHERTEXTS` beside its bundles (`blindgate_protocol.bundle`). What the
bundle's documents name is looked for there by digest: input, evaluation key and result, and the model's server part, which the
publisher's package (`*.bgmodel`) holds. A tenant is not given a server part by the gateway, so that has to be laid there by hand.

Only names are looked at here. Whether a file is what it is named for is found out by `recomputation`, which reads it.
"""

from pathlib import Path
from typing import Final

from blindgate_audit.recomputation import Files
from blindgate_protocol.bundle import CIPHERTEXTS, Bundle, ciphertext_file
from blindgate_protocol.errors import InputError

PACKAGES: Final = "*.bgmodel"


def folder_beside(bundle: Path) -> Path:
    """The folder of ciphertexts that belongs to a bundle's file."""
    return bundle.parent / CIPHERTEXTS


def find_files(  # noqa: PLR0913  (what an auditor may name)
    folder: Path,
    bundle: Bundle,
    *,
    given: Path | None = None,
    package: Path | None = None,
    key: Path | None = None,
    result: Path | None = None,
) -> Files:
    """The files of a job, in `folder` where no option names them. The result may be missing: its digest is in the receipt.

    Args:
        folder: where the rest is looked for.
        bundle: the job.
        given: the input, as an option names it.
        package: the model's package, likewise.
        key: the evaluation key, likewise.
        result: the result, likewise.

    Raises `InputError` that lists everything that is missing, each with the option that names it.
    """
    order, manifest = bundle.order.document, bundle.manifest.document
    missing = []
    found_input = given or _kept(folder, order.input.digest)
    if found_input is None:
        missing.append(f"the input {ciphertext_file(order.input.digest)} (or --input)")
    if key is None and order.evaluation_key is not None:
        key = _kept(folder, order.evaluation_key)
        if key is None:
            missing.append(f"the evaluation key {ciphertext_file(order.evaluation_key)} (or --key)")
    found_package = package or _with_package(folder, manifest.server.digest)
    if found_package is None:
        missing.append(
            f"the server part of model {manifest.name} version {manifest.version}, which the gateway does not give to tenants: the "
            f"publisher's package, a file {PACKAGES} (or --package)"
        )
    if found_input is None or found_package is None or missing:
        state = "does not have" if folder.is_dir() else "does not exist. It would have"
        message = (
            f"--recompute needs the job's ciphertexts, and the folder {folder} {state}: {'; '.join(missing)}. Another folder is "
            "given with --ciphertexts"
        )
        raise InputError(message)
    if result is None and bundle.receipt is not None:
        result = _kept(folder, bundle.receipt.document.output.digest)
    return Files(found_input, found_package, key, result)


def _kept(folder: Path, digest: str) -> Path | None:
    path = folder / ciphertext_file(digest)
    return path if path.is_file() else None


def _with_package(folder: Path, server: str) -> Path | None:
    """The folder, where it has a package or the part itself: `recomputation` finds out which."""
    there = _kept(folder, server) is not None or any(folder.glob(PACKAGES))
    return folder if there else None
