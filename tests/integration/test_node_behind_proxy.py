"""A node behind a proxy that sends a request again: the gateway refuses it the second time, and nothing is lost."""

from pathlib import Path

import httpx2
import pytest

from blindgate_node.transport import Gateway, LeaseName
from blindgate_protocol.errors import GatewayError, NotAuthorisedError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import Commit, LeaseRequest
from brokerage import FAMILY
from desk import open_desk


class Repeating(httpx2.BaseTransport):
    """Sends the next request twice and passes the second answer on."""

    def __init__(self, inner: httpx2.BaseTransport) -> None:
        self._inner = inner
        self.repeats = 1

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it."""
        request.read()
        if self.repeats:
            self.repeats -= 1
            self._inner.handle_request(request).read()
        return self._inner.handle_request(request)


def test_a_request_that_was_sent_twice_is_signed_anew(tmp_path: Path) -> None:
    """A poll counts as unanswered, and does not end the node as one that is not known does; a commit is repeated until it is."""
    with open_desk(tmp_path, lease=60_000) as desk:
        job = desk.submit().job
        proxy = Repeating(httpx2.WSGITransport(desk.app))
        node = Gateway(desk.worker.gateway, key=desk.worker.key)
        node._http._transport = proxy
        poll = LeaseRequest(families=(FAMILY,), wait=0)
        with pytest.raises(GatewayError) as refused:
            node.lease(poll)
        assert (refused.value.problem, isinstance(refused.value, NotAuthorisedError)) == ("replayed", False)
        desk.let_pass(job)
        lease = node.lease(poll)
        assert lease is not None
        proxy.repeats = 1
        name = LeaseName(job=lease.job, generation=lease.generation, token=lease.token)
        receipt = desk.worker.receipt(lease, b"answer")
        node.commit(name, Commit(receipt=receipt.envelope, result_data=b"answer"), lambda: True)
        assert desk.state(job) is JobState.SUCCEEDED
        node.close()
