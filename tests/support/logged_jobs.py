"""Two jobs that were evaluated and not opened, behind a proxy that answers for the gateway's log.

The proxy stands between the SDK and a real gateway. What it says of the log is made with real keys and real trees, so each lie is
as good as whoever holds the log's key can make it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from between import Answer, Proxy
from blindgate import Client, Policy
from blindgate.job import Job
from blindgate.keystore import FileStore
from blindgate.policy import Rules
from blindgate_protocol.logged import LoggedProof
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed, open_signed
from memory_log import Cosigner, MemoryLog, succeeded
from second_keys import SECOND
from world import World

SOON, LONG = 0.6, 40.0
MISSING = Answer(
    404, b'{"type":"about:blank","title":"t","status":404,"detail":"no such","code":"not-found","request":"0"}'
)
NOT_YET = Answer(
    409, b'{"type":"about:blank","title":"t","status":409,"detail":"not yet","code":"not-logged","request":"0"}'
)

Lie = Callable[["Scene"], Answer]


class Scene:
    """Two jobs that were evaluated and not opened, of one client, and the log that their receipts stand in.

    The log has the second's event at index 3, the first's at 9, and 12 entries.
    """

    def __init__(self, world: World, proxy: Proxy, home: Path, rows: np.ndarray[Any, Any]) -> None:
        self.world, self.proxy, self.home = world, proxy, home
        self.log, self.witness = MemoryLog(), Cosigner("north.example")
        self.answers: dict[str, Callable[[], Answer]] = {}
        self.checkpoint: Callable[[], Answer] = lambda: Answer(200, self.log.note())
        proxy.lie = self._answer
        self.clients: list[Client] = []
        self.keys = FileStore(home / "keys")
        client = self.client(within=LONG)
        model = client.model("small")
        self.first, self.second = model.submit(rows[:3]), model.submit(rows[3:6])
        self.receipts = {job.id: _receipt(job) for job in (self.second, self.first)}
        self.log.fill(3)
        self.index = {}
        for job, receipt in self.receipts.items():
            self.index[job] = self.log.append(succeeded(receipt))
            self.log.fill(5 if job == self.second.id else 2)
        proxy.heard.clear()

    def client(self, *, within: float, cosignatures: int = 0, second: bool = False) -> Client:
        """A client whose policy names the log, and its second key where that is wanted."""
        policy = Policy(
            dict(self.world.publishers),
            {"this-world": self.world.operator.id},
            Rules(cosignatures=cosignatures, log_within=within),
            self.home / "policy.toml",
            {"ours": str(self.log.key)},
            {"north": str(self.witness.key)},
            second_keys={"ours": str(SECOND.verifier)} if second else {},
        )
        policy.save()
        made = Client(
            self.proxy.url, self.world.api_key("hospital"), policy=policy, home=self.home, key_store=self.keys
        )
        self.clients.append(made)
        return made

    def job(self, which: Job, **rules: Any) -> Job:
        """The job in a client with other rules."""
        return self.client(**rules).job(which.id)

    def proof(self, which: Job, size: int | None = None, *, cosigned: bool = False) -> LoggedProof:
        """The true proof."""
        return self.log.proof(self.index[which.id], size, cosigners=[self.witness] if cosigned else [])

    def asked(self, which: Job, what: str) -> int:
        """How often the client asked for this of a job."""
        return sum(f"/{which.id}/{what}" in said.path for said in self.proxy.heard)

    def _answer(self, method: str, path: str, answer: Answer) -> Answer:
        steps = path.partition("?")[0].split("/")
        if method == "GET" and steps[-1] == "proof":
            return self.answers[steps[-2]]()
        return self.checkpoint() if steps[1:] == ["log", "checkpoint"] else answer


def _receipt(job: Job) -> Signed[Receipt]:
    view = job._wait(60)
    assert view.receipt is not None
    return open_signed(view.receipt, Receipt)


def told(proof: LoggedProof) -> Answer:
    """A proof as an answer."""
    return Answer(200, proof.model_dump_json().encode())


@contextmanager
def evaluated_jobs(world: World, home: Path, rows: np.ndarray[Any, Any]) -> Iterator[Scene]:
    """Two evaluated jobs of six rows in all, behind a proxy that answers for the log. Clients are closed at the end."""
    with Proxy(world.url) as proxy:
        made = Scene(world, proxy, home, rows)
        yield made
        for client in made.clients:
            client.close()
