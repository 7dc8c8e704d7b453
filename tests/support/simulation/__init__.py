"""The broker under a scheduler that a seed decides completely: `python -m simulation --help`, `make simulate`.

The product's own code runs here, as it is: the gateway's rooms behind their routes, the node's loop and jobs, the SDK's transport
and uploads. What is simulated is the world: time, processes, the network, the database's machine, the store of blobs.

| module | what it has |
|---|---|
| `scheduler` | greenlets that go on one at a time, processes that die, the clock |
| `faults` | where things go wrong, and how often everything happened |
| `database`, `store`, `wire` | the outside: SQLite in memory, blobs, the network; each fails when the seed says so |
| `gateways`, `nodes`, `tenants` | who acts |
| `chaos` | what happens to them |
| `seams` | where the product asks for the time and for random bits |
| `audit`, `ledger`, `invariants` | what was done, what was told, and what must hold |
| `world` | one schedule, from a seed to a verdict |
| `campaign` | many of them |
| `planted` | faults that have to be found |

What is not here: interleavings inside a transaction, which PostgreSQL's READ COMMITTED allows (`test_broker_model` and the tests of
faults have those); SQLite's group commit; the folder's and the bucket's own code; signatures of requests; a database whose clock
goes backwards.
"""
