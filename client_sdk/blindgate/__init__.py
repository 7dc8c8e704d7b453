"""Blindgate's SDK: predictions that only the asker can read.

`Client` is the way in. `Policy` says whom you trust. Errors are in `blindgate.errors`.
"""

from blindgate.client import Client
from blindgate.explanation import Explanation
from blindgate.job import Job
from blindgate.model import Model
from blindgate.neighbours import SearchResult
from blindgate.policy import Policy
from blindgate_protocol import errors
from blindgate_protocol.errors import BlindgateError

__all__ = ["BlindgateError", "Client", "Explanation", "Job", "Model", "Policy", "SearchResult", "errors"]
