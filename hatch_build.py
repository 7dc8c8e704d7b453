"""Compiles the kernel in C while a wheel is built, where there is a compiler; the wheel is pure Python where there is none.

`CC` in the environment names another compiler than `cc`. The library goes beside its source, where git ignores it and an editable
install finds it. It holds no path and no date: the same compiler makes the same bytes.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE: Final = Path("fhe_models/blindgate_models/native")
FLAGS: Final = ("-std=c11", "-O3", "-fPIC", "-shared", "-s", "-fstack-protector-strong")


class KernelHook(BuildHookInterface[Any]):
    """See hatchling's custom build hooks."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  (hatchling's)
        """Compile, and tag the wheel for this platform where that worked."""
        source = Path(self.root) / NATIVE / "kernel.c"
        if compiled(source, source.with_name("libkernel.so")):
            build_data["artifacts"].append((NATIVE / "libkernel.so").as_posix())
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
        else:
            self.app.display_warning("No C compiler: SEAL does what the kernel would have done, more slowly.")


def compiled(source: Path, library: Path) -> bool:
    """Compile `source` into `library`. False where there is no compiler, or where it fails."""
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        return False
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    partial = library.with_suffix(f".{os.getpid()}")
    given = [f'-DSOURCE_DIGEST="{digest}"', "-o", str(partial), str(source)]
    try:
        subprocess.run([*command, *FLAGS, *given], check=True, stdin=subprocess.DEVNULL)
        partial.replace(library)
    except (OSError, subprocess.CalledProcessError):
        partial.unlink(missing_ok=True)
        return False
    return True
