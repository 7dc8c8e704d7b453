"""skops, imported without torch: three of the four seconds that it takes, in every process of the tests.

To know which types to trust, it imports every module of scikit-learn, and one of those imports torch if it is there.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

_HEAVY: Final = "torch"


class _WithoutTorch(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _HEAVY:
            raise ModuleNotFoundError(name=fullname)
        return None


_finder: Final = _WithoutTorch()
sys.meta_path.insert(0, _finder)
with suppress(ModuleNotFoundError):  # where the extra `compile` is not installed
    import skops.io
sys.meta_path.remove(_finder)
