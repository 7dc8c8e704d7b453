"""`make demo`: the whole way of a prediction, on this machine, with real processes.

A gunicorn gateway and two nodes are started by the commands that an operator would type. Breast-cancer patients that neither model
was trained on are predicted under encryption; every label is compared with the plaintext model's; then the gateway is asked what it
stored, every receipt is verified, and disks and memories are searched for what must not be there.

Exits with 1 if one label differs, a receipt does not verify, or a planted value is found where it must not be.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import planted
import sealed
from blindgate import Client
from blindgate.job import Job, Timings
from blindgate.keystore import FileStore
from blindgate.output import when
from blindgate_protocol.receipts import check_receipt
from models.breast_cancer import ADDITIVE, FOREST, LINEAR, NAMES, TREES, patients, plain
from models.build import INSECURE_DEMO_PUBLISHER, package_file
from world import BLINDGATE, World, folder_for

NODES = ("node-1", "node-2")
ASKED = {
    LINEAR: ("CKKS", None),
    ADDITIVE: ("BFV, the model hidden", None),
    FOREST: ("BFV, the model hidden", 24),
    TREES: ("TFHE", 3),
}
"""How each model's rows are encrypted, and about how many patients it is asked: all where it says nothing."""
MARK = 17.918273645546372
"""A number that occurs nowhere else: the first patient's first column is set to it."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else 112)


@dataclass
class Outcome:
    """One model's predictions and what they cost."""

    name: str
    patients: tuple[int, ...]
    labels: np.ndarray[Any, Any]
    expected: np.ndarray[Any, Any]
    timings: Timings
    seconds: float
    jobs: tuple[Job, ...]

    @property
    def agree(self) -> int:
        """On how many rows the label is the plaintext model's."""
        return int((self.labels == self.expected).sum())


def main() -> int:
    """Run the demo and give its exit status."""
    arguments = argparse.ArgumentParser(description="The whole way of a prediction under encryption, on this machine.")
    arguments.add_argument("--dir", type=Path, help="keep every file under this folder")
    folder = arguments.parse_args().dir
    try:
        with folder_for(folder) as place:
            return Demo(place).run()
    except FileExistsError as error:
        console.print(f"[red]{error}[/red]")
        return 1


class Demo:
    """One run under one folder."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is empty."""
        self.world = World(folder)
        self.failures: list[str] = []

    def run(self) -> int:
        """Everything, in the order in which a person reads it."""
        with self.world:
            client = self._start()
            held_out = patients()[1]
            outcomes = [
                self._predict(client, name, scheme, marked(held_out[:count]), plain(name))
                for name, (scheme, count) in ASKED.items()
            ]
            self._show_outcomes(outcomes)
            self._show_stored(outcomes)
            self._show_receipts(client, outcomes)
            self._seal()
            self._verify_log()
            self._search(client)
            client.close()
        return self._verdict()

    def _start(self) -> Client:
        steps: list[tuple[str, Callable[[], object]]] = [
            ("gateway: gunicorn, SQLite, a folder for blobs", self.world.start_gateway),
            *(
                (f"{name}: certified by the operator, enrolled", lambda name=name: self.world.start_node(name))
                for name in NODES
            ),
            ("publish the models", self._publish),
        ]
        self.world.trust("insecure-demo-publisher", INSECURE_DEMO_PUBLISHER.id)
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as bar:
            for what, step in steps:
                task = bar.add_task(what, total=1)
                step()
                bar.update(task, completed=1)
        return self.world.client(progress=None)

    def _publish(self) -> None:
        for name in NAMES:
            self.world.publish(package_file(name))

    def _predict(
        self,
        client: Client,
        name: str,
        scheme: str,
        rows: pd.DataFrame,
        plain: Any,
    ) -> Outcome:
        console.print(f"\nAsking [bold]{name}[/bold] about {len(rows)} patients, under {scheme} ...")
        model = client.model(name)
        start = time.monotonic()
        labels = model.predict(rows, timeout=300)
        seconds = time.monotonic() - start
        timings = sum((job.timings for job in model.last_jobs), Timings())
        outcome = Outcome(name, tuple(rows.index), labels, plain.predict(rows), timings, seconds, model.last_jobs)
        if outcome.agree != len(rows):
            self.failures.append(f"{name}: {len(rows) - outcome.agree} labels differ from the plaintext model's")
        return outcome

    def _show_outcomes(self, outcomes: list[Outcome]) -> None:
        patients = Table(title="\nPatients", title_justify="left", box=None, header_style="bold")
        for heading in ("model", "patient", "under encryption", "in the clear", ""):
            patients.add_column(heading)
        for outcome in outcomes:
            shown = list(zip(outcome.patients, outcome.labels, outcome.expected, strict=True))
            for patient, label, expected in shown[:5]:
                mark = "[green]same[/green]" if label == expected else "[red]DIFFERENT[/red]"
                patients.add_row(outcome.name, f"no. {patient}", str(label), str(expected), mark)
            if len(shown) > 5:
                patients.add_row("", f"and {len(shown) - 5} more", "", "", "")
        console.print(patients)

        table = Table(title="\nWhere the time went", title_justify="left", box=None, header_style="bold")
        table.add_column("")
        for outcome in outcomes:
            table.add_column(outcome.name.replace("breast-cancer-", ""), justify="right")
        rows: list[tuple[str, Callable[[Outcome], str]]] = [
            ("patients", lambda o: str(len(o.labels))),
            ("agree with the plaintext model", lambda o: f"{o.agree} of {len(o.labels)}"),
            ("jobs", lambda o: str(len(o.jobs))),
        ]
        for part in ("make_keys", "encrypt", "upload", "wait", "evaluate", "download", "verify", "decrypt"):
            name = part.replace("_", " ")
            rows.append((name, lambda o, part=part: f"{getattr(o.timings, part) * 1000:,.0f} ms"))  # type: ignore[misc]
        rows += [
            ("whole call", lambda o: f"{o.seconds * 1000:,.0f} ms"),
            ("bytes up", lambda o: f"{o.timings.bytes_up:,}"),
            ("bytes down", lambda o: f"{o.timings.bytes_down:,}"),
        ]
        for name, cell in rows:
            table.add_row(name, *(cell(outcome) for outcome in outcomes))
        console.print(table)
        console.print(
            "[dim]Times of several jobs are added up; jobs of one call overlap, so the parts may exceed the whole.[/dim]"
        )

    def _show_stored(self, outcomes: list[Outcome]) -> None:
        table = Table(title="\nWhat the gateway stored", title_justify="left", box=None, header_style="bold")
        for heading in ("job", "what", "digest", "bytes", "stored"):
            table.add_column(heading, justify="right" if heading == "bytes" else "left")
        for outcome in outcomes:
            job = outcome.jobs[0]
            for blob in job.record().blobs:
                table.add_row(job.id[:12], blob.role, blob.digest[:23] + "…", f"{blob.size:,}", when(blob.stored))
        console.print(table)
        console.print("[dim]Ciphertexts and signed documents: names, sizes, digests, and no value.[/dim]")

    def _show_receipts(self, client: Client, outcomes: list[Outcome]) -> None:
        table = Table(title="\nReceipts", title_justify="left", box=None, header_style="bold")
        for heading in ("job", "model", "node", "evaluated in", "output", "verified", "in the log at"):
            table.add_column(heading)
        operators = client.policy.allowed_operators()
        for outcome in outcomes:
            for job in outcome.jobs:
                bundle = job.bundle
                if bundle.receipt is None:
                    self.failures.append(f"job {job.id} has no receipt")
                    continue
                try:
                    certificate = check_receipt(bundle.receipt, bundle.order, bundle.manifest, operators=operators)
                    logged = job.logged
                except Exception as error:  # noqa: BLE001  (whatever it is, the demo has failed)
                    self.failures.append(f"receipt of job {job.id}: {error}")
                    continue
                receipt = bundle.receipt.document
                table.add_row(
                    job.id[:12],
                    f"{receipt.model.name} v{receipt.model.version}",
                    certificate.document.name,
                    f"{receipt.finished - receipt.started:,} ms",
                    receipt.output.digest[:23] + "…",
                    "[green]yes[/green]",
                    "[red]nowhere[/red]" if logged is None else str(logged.index),
                )
                if logged is None:
                    self.failures.append(f"job {job.id} is not in the log")
        console.print(table)
        console.print(
            "[dim]Each agrees with the order that this client signed: job, model, circuit, key, input, node, operator. "
            "Not proven: that the node computed what it says.[/dim]"
        )

    def _seal(self) -> None:
        """The second lane: a request sealed to a node whose evidence the client has judged. Here it is simulated, and says so."""
        if lacks := sealed.missing():
            console.print(
                f"\n[yellow]Without {', '.join(lacks)}, no request is sealed to a node: see `make env`.[/yellow]"
            )
            return
        console.print(
            f"\n[bold]Sealing[/bold] a request to [bold]{sealed.MODEL}[/bold], on a node that shows evidence ..."
        )
        sealed.start(self.world, INSECURE_DEMO_PUBLISHER)
        with sealed.client(self.world) as asker:
            answer = sealed.ask(asker)
        receipt = answer.receipt.document
        console.print(
            f"Three texts embedded in {answer.seconds * 1000:,.0f} ms: {answer.near:.2f} alike where two mean the same, "
            f"{answer.far:.2f} where not.\nThe receipt commits to prompt and answer, and rests on evidence "
            f"{(receipt.evidence or '')[:23]}…\n"
            "[dim]That evidence is simulated: this machine is no trusted execution environment, and the policy names its key. "
            "With real hardware, the policy names the platform and what it measures.[/dim]"
        )
        if answer.near <= answer.far:
            self.failures.append("the embeddings put texts of one meaning farther apart than texts of two")

    def _verify_log(self) -> None:
        """Do what an auditor does with the files of the gateway's log, by the auditor's own command."""
        wait_for_files(self.world)
        command = [BLINDGATE, "audit", "verify", str(self.world.log_folder), "--key", self.world.log_key()]
        command += ["--remember", str(self.world.folder / "auditor")]
        console.print(f"\n[bold]The log[/bold], verified by: blindgate audit verify {self.world.log_folder}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        console.print(done.stdout.strip() or done.stderr.strip())
        if done.returncode != 0:
            self.failures.append("the gateway's log does not verify")

    def _search(self, client: Client) -> None:
        store = FileStore(client.home / "keys")
        secrets = {name: store.get(name) or b"" for name in store.names() if name.endswith((".secret", "signing-key"))}
        search = planted.Search(
            [
                planted.number("the planted value", MARK),
                planted.text("the sealed text", sealed.PLANTED),
                *(planted.stored_key(f"secret key {name}", secret) for name, secret in secrets.items()),
            ]
        )
        folders = [
            self.world.folder / name for name in ("gateway", *NODES, sealed.NODE) if (self.world.folder / name).exists()
        ]
        found = search.in_files(folders)
        # The node that was sealed to has the text in its memory: that is what it is for.
        others = [process for name, process in self.world.processes.items() if name != sealed.NODE]
        running = [pid for process in others for pid in planted.family(process.pid)]
        where = f"{len(running)} processes' memory"
        try:
            found += search.in_processes(running)
        except PermissionError:
            where = "no memory: this user may not read the nodes' (run as root to search it too)"
        self.failures += found
        files = sum(path.is_file() for folder in folders for path in folder.rglob("*"))
        verdict = "[red]FOUND[/red]" if found else "[green]not found[/green]"
        console.print(
            f"\n[bold]Planted value, sealed text and {len(secrets)} secret keys[/bold]: {verdict} in {files} files and {where}."
        )

    def _verdict(self) -> int:
        for failure in self.failures:
            console.print(f"[red]FAILED[/red] {failure}")
        if not self.failures:
            console.print(
                "\n[bold green]Every label is the plaintext model's, every receipt verified and in the log, "
                "nothing leaked.[/bold green]"
            )
        return 1 if self.failures else 0


def wait_for_files(world: World) -> None:
    """Let the gateway write out what was logged so far: it does so every other second."""
    size = httpx2.get(f"{world.url}/v1/log").json()["size"]
    until = time.monotonic() + 30
    while time.monotonic() < until:
        checkpoint = world.log_folder / "checkpoint"
        if checkpoint.exists() and int(checkpoint.read_text().split("\n")[1]) >= size:
            return
        time.sleep(0.1)


def marked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the planted value in the first patient's first column."""
    rows = rows.copy()
    rows.iloc[0, 0] = MARK
    return rows


if __name__ == "__main__":
    sys.exit(main())
