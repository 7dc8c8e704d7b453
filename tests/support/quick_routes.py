"""Applications that are made at once: what builds the URLs of a route is compiled when it builds the first.

A gateway has some seventy routes, and compiles two builders for each, which is half of the time that a test takes to open one; of
most routes nobody builds a URL. Requests are matched as ever. Whatever imports this has such applications from then on.
"""

from collections.abc import Callable
from typing import Any, Final

from werkzeug.routing import Rule

_Builder = Callable[..., Any]

_compiled: Final = Rule._compile_builder


def _when_asked(rule: Rule, append_unknown: bool = True) -> _Builder:
    made: list[_Builder] = []

    def build(self: Rule, **values: Any) -> Any:
        if not made:
            made.append(_compiled(rule, append_unknown))
        return made[0](self, **values)

    return build


Rule._compile_builder = _when_asked  # type: ignore[method-assign, assignment]
