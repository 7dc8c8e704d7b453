"""The roots that evidence leads to, by SHA-256 of each certificate's DER. Nothing else is believed, whatever comes with evidence.

Each maker's own publication is named; whoever checks one fetches it there and compares. The certificates themselves come with the
evidence or lie beside it: a fingerprint is enough to know them.
"""

from collections.abc import Mapping
from typing import Final

AMD: Final[Mapping[str, str]] = {
    # https://kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain
    "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd": "Milan",
    "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1": "Genoa",
    "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a": "Turin",
}
"""AMD's root keys (ARK), one for each generation of processors."""

NITRO: Final[Mapping[str, str]] = {
    # https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip, whose fingerprint AWS's documentation prints
    "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b": "AWS Nitro Enclaves Root G1",
}
"""The root of AWS's Nitro enclaves."""

NVIDIA: Final[Mapping[str, str]] = {
    # https://github.com/NVIDIA/nvtrust, guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier/certs/verifier_device_root.pem
    "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48": "NVIDIA Device Identity CA",
}
"""The root of NVIDIA's devices: GPUs, and switches and network cards, which are no GPUs."""

INTEL: Final[Mapping[str, str]] = {
    # https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
    "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3": "Intel SGX Root CA",
}
"""The root under which Intel certifies the platforms of SGX and TDX, and signs what it says of them."""

NVIDIA_REFERENCES: Final[Mapping[str, str]] = {
    # https://github.com/NVIDIA/nvtrust, guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier/certs/verifier_RIM_root.pem
    "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1": "NVIDIA CoRIM signing Root CA",
}
"""The root under which NVIDIA signs reference manifests."""
