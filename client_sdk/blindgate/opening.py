"""From what the gateway hands over to bytes that may be decrypted.

The order of things is the argument:

1. the receipt is held against the order that this client signed and kept (`receipts.check_receipt`);
2. exactly as many bytes as the receipt names are fetched, where they did not come along, and their digest compared;
3. where the policy names a log, the receipt stands in it, within the policy's time (`logs.Logs.find`);
4. nobody whose signature this rests on was revoked when it counts as made (`Policy.require_unrevoked`): by the log's time
   where step 3 found one, by the receipt's own where the policy names no log;
5. the bundle is kept, with the receipt and the proof of step 3;
6. the gateway is told that the result arrived, in the same words whatever it is;
7. only then may the caller decrypt.

Nothing is sent after step 6 that depends on the plaintext: no retry, no complaint, no second acknowledgement. A node that
answers with crafted ciphertexts learns nothing from what this client does next, because it does nothing next. When one of the
steps 1 to 4 refuses, nothing is acknowledged either, and nothing is decrypted; the caller may ask again.
"""

from collections.abc import Container
from dataclasses import replace

from blindgate.bundles import Bundles
from blindgate.logs import Logs
from blindgate.policy import Policy
from blindgate.transport import Transport
from blindgate_protocol.bundle import Bundle
from blindgate_protocol.errors import ReceiptOrderError, ResultDigestError
from blindgate_protocol.messages import JobView
from blindgate_protocol.receipts import Receipt, check_receipt, check_result
from blindgate_protocol.signing import Signed, open_signed


def verify_receipt(view: JobView, bundle: Bundle, *, operators: Container[str]) -> Signed[Receipt]:
    """Do step 1: give the receipt of a job that the gateway calls finished. Raises a `ReceiptError` or `SignatureError`."""
    if view.receipt is None:
        message = f"the gateway calls job {view.job} finished and shows no receipt"
        raise ReceiptOrderError(message)
    receipt = open_signed(view.receipt, Receipt)
    check_receipt(receipt, bundle.order, bundle.manifest, operators=operators)
    most = bundle.manifest.document.limits.result_bytes
    if receipt.document.output.size > most:
        message = f"the receipt names a result of {receipt.document.output.size} bytes; the manifest allows {most}"
        raise ResultDigestError(message)
    return receipt


def fetch_result(transport: Transport, view: JobView, receipt: Signed[Receipt]) -> bytes:
    """Do step 2. Raises `MalformedError` or `ResultDigestError`."""
    result = view.result_data
    if result is None:
        result = transport.download(f"/v1/jobs/{receipt.document.job}/result", receipt.document.output.size)
    check_result(receipt, result)
    return result


def find_in_log(transport: Transport, logs: Logs, bundle: Bundle, receipt: Signed[Receipt], *, seen: float) -> Bundle:
    """Do step 3, for a result that was `seen` then, on the monotonic clock. Gives the bundle with its receipt and the proof.

    Raises a `LogError`, `UntrustedSignerError`, `MalformedError` or `GatewayError`.
    """
    complete = replace(bundle, receipt=receipt)
    return logs.find(transport, complete, seen=seen) if logs.wanted else complete


def refuse_revoked(policy: Policy, logs: Logs, complete: Bundle) -> None:
    """Do step 4. Raises `RevokedSignerError`."""
    if policy.revoked:
        standing = logs.standing(complete)
        policy.require_unrevoked(complete, logged=None if standing is None else standing.event.time)


def acknowledge(transport: Transport, bundles: Bundles, complete: Bundle) -> None:
    """Do steps 5 and 6."""
    bundles.save(complete)
    transport.post_only(f"/v1/jobs/{complete.order.document.job}/acknowledge")
