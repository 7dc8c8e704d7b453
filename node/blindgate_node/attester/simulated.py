"""The attester of a machine that has none: for tests, for the demo, and for whoever builds against the confidential lane.

It is chosen by name alone (`attester = "insecure-simulated"`), never because nothing else was found. It says what it is when it is
made, and in every document. Its key is its own and lies in the node's folder: a policy that wants to use such a node has to name
that key, and even then the result is a warning (`blindgate.attestation.simulated` in the SDK).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from blindgate_node.attester.attesters import PlatformEvidence, check_report_data
from blindgate_node.signer import load_or_create_key
from blindgate_protocol.signing import open_signed
from blindgate_protocol.simulated_evidence import INSECURE_SIMULATED, WARNING, SimulatedEvidence
from blindgate_protocol.values import Millis

KEY_FILE: Final = "insecure-simulated.key"


class InsecureSimulatedAttester:
    """Signs whatever it is asked to bind, with a key that anybody could have made.

    Attributes:
        platform: `insecure-simulated`.
        key: the id of its key, for a policy that knowingly uses it.
    """

    platform: str = INSECURE_SIMULATED

    def __init__(self, folder: Path, log: Callable[..., None], now: Callable[[], Millis]) -> None:
        """Load its key from the node's folder, or make one, and warn. Raises `KeyStoreError`."""
        self._key = load_or_create_key(folder / KEY_FILE)
        self._now = now
        self.key: str = self._key.id
        log("attester.simulated", key=self.key, warning=WARNING)

    def attest(self, report_data: bytes) -> PlatformEvidence:
        """As `Attester`."""
        check_report_data(report_data)
        document = SimulatedEvidence(warning=WARNING, report_data=report_data, time=self._now())
        made = self._key.sign(document).envelope.to_bytes()
        # As with every platform: what is handed out is read once, as its reader will.
        open_signed(made, SimulatedEvidence)
        return PlatformEvidence(INSECURE_SIMULATED, made)
