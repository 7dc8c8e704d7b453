"""Is this gateway well, and was nothing lost or altered? Asked beside one that runs, and answered check by check.

Each room looks at one thing and yields findings: `host` the machine's folder and disk; `server` the database as a whole; `rows`
what must hold between rows; `documents` what somebody signed; `store` the bytes. `examine` asks them in that order, and leaves out
what cannot be asked when an earlier answer was bad. `repairs` sets right what needs no other source, when it is asked to.

Otherwise nothing is changed. What moves meanwhile is no finding: rows are judged within one consistent view, and a blob that seems
to be missing is looked for again.
"""

from blindgate_gateway.check.examination import examine
from blindgate_gateway.check.findings import Finding, Progress, State

__all__ = ["Finding", "Progress", "State", "examine"]
