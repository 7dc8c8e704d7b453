"""`make bench`: every measurement, as JSON and as two plots, in `bench/results/`.

One thread in whatever computes; medians; ours and the peer's in the same run. Results are kept with the machine's name, a file for
each module, a result a line.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "examples"), str(HERE.parent / "tests" / "support")]

from bench import (  # noqa: E402
    blobs,
    broker,
    client_to_client,
    concrete,
    families,
    first_token,
    linear,
    log,
    lookup,
    network,
    node,
    private,
    queueing,
    retrieval,
    sealing,
    search,
    telling,
    tree_batches,
)
from bench.rows import Row  # noqa: E402

MODULES: dict[str, Callable[[], list[Row]]] = {
    "linear": linear.rows,
    "network": network.rows,
    "search": search.rows,
    "lookup": lookup.rows,
    "tree_batches": tree_batches.rows,
    "retrieval": retrieval.rows,
    "concrete": concrete.rows,
    "private": private.rows,
    "families": families.rows,
    "broker": broker.rows,
    "blobs": blobs.rows,
    "queueing": queueing.rows,
    "node": node.rows,
    "log": log.rows,
    "telling": telling.rows,
    "sealing": sealing.rows,
    "first_token": first_token.rows,
    "client_to_client": client_to_client.rows,
}
RESULTS = HERE / "results"


def main() -> None:
    """Run the modules that were named, or all."""
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("modules", nargs="*", choices=[[], *MODULES], help="which; all by default")
    chosen = arguments.parse_args().modules or list(MODULES)
    RESULTS.mkdir(exist_ok=True)
    for name in chosen:
        print(f"{name} ...", flush=True)
        measured = MODULES[name]()
        (RESULTS / f"{name}.json").write_text("".join(json.dumps(one) + "\n" for one in measured))
        for one in measured:
            print("  " + _line(one), flush=True)
    plot(RESULTS / "bench.svg")
    families.plot(_kept("families"), RESULTS / "families.svg")


def _kept(name: str) -> list[Row]:
    """What a module's last run measured."""
    file = RESULTS / f"{name}.json"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _line(one: Row) -> str:
    asked = (
        ""
        if one["target"] is None
        else f", asked {one['target']:g}x: {'met' if one['ratio'] >= one['target'] else 'MISSED'}"
    )
    return f"{one['name']}: {one['ours']:g} {one['unit']} against {one['peer']:g}, {one['ratio']:g}x{asked}"


def plot(path: Path) -> None:
    """Draw every kept result: how many times better than its peer, with what was asked for."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    kept = [
        one for name in sorted(MODULES) if name != "families" for one in _kept(name)
    ]  # families have a plot of their own
    kept.reverse()
    figure, axes = plt.subplots(figsize=(10, 0.5 * len(kept) + 1.2))
    places = range(len(kept))
    axes.barh(places, [one["ratio"] for one in kept], color="#4477aa", height=0.6)
    for place, one in enumerate(kept):
        if one["target"] is not None:
            axes.plot([one["target"]] * 2, [place - 0.4, place + 0.4], color="#cc3311", linewidth=2)
    axes.set_yticks(
        places, [f"{one['name']}\n{one['ours']:g} against {one['peer']:g} {one['unit']}" for one in kept], fontsize=8
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("times better than the peer (red: asked for)")
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_title(kept[0]["machine"] if kept else "", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
