"""skops, imported without torch: three of the four seconds that it takes, in every process of the tests.

To know which types to trust, it imports every module of scikit-learn, and one of those imports torch if it is there. That one is
taken for missing meanwhile; whoever wants torch imports it as ever.
"""

import sys
from contextlib import suppress
from importlib import import_module
from typing import Final

_WANTS_TORCH: Final = "sklearn.externals.array_api_compat.torch"

sys.modules[_WANTS_TORCH] = None  # type: ignore[assignment]
with suppress(ModuleNotFoundError):  # where the extra `compile` is not installed
    import_module("skops.io")
del sys.modules[_WANTS_TORCH]
