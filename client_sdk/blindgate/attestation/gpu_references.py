"""Whether a GPU's measurements are those of NVIDIA's reference manifests (`rim`): one of its driver, and one of its VBIOS.

1. a manifest is one that NVIDIA signed (`reference-form`, `reference-root`, `reference-chain`, `reference-validity`,
   `reference-algorithm`, `reference-signature`);
2. it is of the driver or the VBIOS that the report names, and a driver's is of this chip (`reference-version`);
3. each measurement that it has is shown by the report with one of its digests (`measurement`). A manifest counts from 0, and the
   report's blocks from 1. The measurement of the video decoder's firmware is not there where the decoder is off.

What else a manifest asks for is not held, and said to be open (`reference-resources`).

A driver's manifest says nothing of the VBIOS, nor the other way round: with one of the two, the other stays unproven.

Source: NVIDIA's nvtrust, `verifier/verifier.py` (the indexes, and the one that is left out).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from blindgate.attestation.appraisal import Appraisal, Asked, Claim
from blindgate.attestation.chains import ChainError
from blindgate.attestation.rim import ManifestError, ReferenceManifest, read_manifest
from blindgate.attestation.spdm import Measurement

Kind = Literal["driver", "VBIOS"]
_NVDEC0: Final = 35
_OFF: Final = "disabled"


class References:
    """The manifests that were given."""

    def __init__(self, found: Appraisal, asked: Asked, given: Sequence[bytes]) -> None:
        """Read them, and note those that are not believed."""
        self._manifests: list[ReferenceManifest] = []
        self._held: list[set[Kind]] = []
        self.were_given = bool(given)
        for data in given:
            try:
                self._manifests.append(read_manifest(data, at=asked.time))
            except (ManifestError, ChainError) as error:
                found.refuse(Claim.EXECUTABLES, f"reference-{error.rule}", f"a reference manifest: {error}")

    def hold(self, found: Appraisal, who: str, facts: Mapping[str, Any], measurements: Iterable[Measurement]) -> None:
        """Hold one GPU's measurements; `who` names it where there are several."""
        shown = {one.index - 1: one.value for one in measurements}
        held: set[Kind] = set()
        for manifest in self._manifests:
            kind = _kind_of(manifest, facts)
            if kind is None:
                runs = f"{facts['product']}, driver {facts.get('driver_version')}, VBIOS {facts.get('vbios_version')}"
                text = f"{who}the manifest is of {manifest.product} {manifest.version}, the GPU is {runs}"
                found.refuse(Claim.EXECUTABLES, "reference-version", text)
                continue
            left_out = {_NVDEC0} if facts.get("nvdec0") == _OFF else set()
            wrong = [
                index
                for index, digests in sorted(manifest.references.items())
                if index not in left_out and shown.get(index) not in digests
            ]
            found.hold(
                Claim.EXECUTABLES,
                "measurement",
                holds=not wrong,
                shows=f"{who}the {len(manifest.references)} measurements of {kind} {manifest.version} are NVIDIA's",
                fails=f"{who}measurements {', '.join(map(str, wrong))} are not those of {kind} {manifest.version}",
            )
            held.add(kind)
            if manifest.unread:
                text = f"{who}{kind} {manifest.version} has {manifest.unread} resources that are no measurements, and not held"
                found.leave_open("reference-resources", text)
        self._held.append(held)

    def leave_open(self, found: Appraisal) -> None:
        """Say what no manifest was held against."""
        missing = [kind for kind in ("driver", "VBIOS") if not self._held or any(kind not in one for one in self._held)]
        if missing:
            text = f"no reference manifest of the {' and the '.join(missing)} was held against the measurements"
            found.leave_open("measurement", f"{text}: whether that firmware is NVIDIA's is not shown")


def _kind_of(manifest: ReferenceManifest, facts: Mapping[str, Any]) -> Kind | None:
    if manifest.version == facts.get("driver_version"):
        return "driver" if manifest.product == facts["product"] else None
    if manifest.version.upper() == facts.get("vbios_version"):
        return "VBIOS"
    return None
