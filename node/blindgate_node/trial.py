"""What a node tries out on itself before it takes work: which layers of the sandbox hold on this kernel.

A zygote is started for a family that does nothing, and one job is run in it, which tries what no job may do. A layer that
reports itself put on, and does not stop that, does not hold.
"""

import hashlib
import json

from blindgate_node.blobs import SealedBlob
from blindgate_node.families import Family
from blindgate_node.pool import Pool
from blindgate_node.sandbox.layers import Held, Layer, missing
from blindgate_node.sandbox.syscalls import Programs, compile_programs
from blindgate_node.settings import MEBI, Settings
from blindgate_node.zygotes import Bounds, Model
from blindgate_protocol.errors import PolicyError, SandboxError

_TRIAL = Family("blindgate", key_expansion=0.0, half="blindgate_node.trespass:Trespasser")
_SECONDS = 20.0


def compiled_programs() -> Programs | None:
    """The system-call filters, or `None` where there can be none."""
    try:
        return compile_programs()
    except OSError:
        return None


def try_layers(pool: Pool, settings: Settings) -> tuple[Held, ...]:
    """Start a worker, let it try what it may not, and say which layers hold. Raises `SandboxError` when none can be started."""
    part = settings.data / "work" / "trial.json"
    part.write_bytes(b"{}")
    bounds = Bounds(
        memory=settings.memory_bytes,
        scratch=settings.scratch_bytes,
        start_seconds=_SECONDS,
        job_seconds=_SECONDS,
        file=MEBI,
        result=MEBI,
    )
    model = Model("trial", "trial", _TRIAL, lambda: part, bounds)
    question = json.dumps({"folder": str(settings.data.absolute())}).encode()
    name = "sha256:" + hashlib.sha256(question).hexdigest()
    try:
        with (
            pool.using(model) as zygote,
            SealedBlob.receive([question], digest=name, size=len(question), most=len(question)) as given,
        ):
            answer = json.loads(zygote.run(given, None, seconds=_SECONDS, started=lambda _: None).data)
            held = zygote.held
    except (ValueError, SandboxError) as error:
        message = f"no worker can be started on this machine: {error}"
        raise SandboxError(message) from error
    finally:
        pool.retire(0.0)
        part.unlink(missing_ok=True)
    return tuple(_believed(entry, answer) for entry in held)


def check_layers(pool: Pool, settings: Settings) -> tuple[Held, ...]:
    """Try out the layers. Raises `PolicyError` when one that the settings require does not hold."""
    held = try_layers(pool, settings)
    lacking = missing(held, settings.require)
    if lacking:
        listed = "; ".join(f"{entry.layer.value}: {entry.detail}" for entry in lacking)
        message = f"required sandbox layers do not hold on this machine ({listed})"
        raise PolicyError(message)
    return held


def _believed(entry: Held, answer: dict[str, bool]) -> Held:
    done = {Layer.SYSCALLS: ("socket", "fork", "execute"), Layer.FILES: ("folder",), Layer.ROOT: ("folder",)}.get(
        entry.layer, ()
    )
    trespassed = [name for name in done if answer.get(name, True)]
    if not entry.holds or not trespassed:
        return entry
    return Held(entry.layer, holds=False, detail=f"it was put on, and a worker still could: {', '.join(trespassed)}")
