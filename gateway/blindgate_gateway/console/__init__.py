"""The auditors' console: the log, keys and jobs as pages in a browser, under `/console`.

It shows what the routes under `/v1/audit` give, to the same people, and changes nothing. `pages` says what holds for each page.
"""

from blindgate_gateway.console import entrance, events, exports, jobs, keys, names, overview
from blindgate_gateway.console.pages import NAME, console, problem_page

__all__ = ["NAME", "console", "entrance", "events", "exports", "jobs", "keys", "names", "overview", "problem_page"]
