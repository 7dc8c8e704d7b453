"""`blindgate rag evaluate FOLDER`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindgate.commands.corpora import EmbedderFolder
from blindgate.commands.options import Json, path
from blindgate.output import note, require_folder, show, show_one

if TYPE_CHECKING:
    from blindgate.retrieval_evaluation import RetrievalEvaluation

app = typer.Typer()


@app.command()
def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A collection in BEIR's layout: corpus.jsonl, queries.jsonl, and qrels/ with judgements.",
            parser=path,
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="Whose judgements: qrels/SPLIT.tsv.")] = "test",
    rankers: Annotated[
        str | None,
        typer.Option(
            "--rankers",
            metavar="NAME,…",
            help="Which of bm25, dense, int8, fused, blended, encrypted and encrypted-public; all by default.",
        ),
    ] = None,
    encrypted: Annotated[
        bool, typer.Option("--encrypted/--no-encrypted", help="Whether the encrypted ones are asked, too.")
    ] = True,
    embedder: EmbedderFolder = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Also draw the measures, as .svg, .png or .pdf.", parser=path),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how well retrieval finds what people judged relevant: nDCG, recall, MRR, and what a question takes.

    `encrypted` is an index that lies elsewhere: its node sees encrypted questions alone, its replies hide it beyond its scores.
    `encrypted-public` is one that the asker may know. Both sides of them run here. Nothing is sent to anybody.
    """
    from blindgate.retrieval_evaluation import ENCRYPTED, RANKERS, evaluate_folder  # noqa: PLC0415  (help must not wait)
    from blindgate_rag.embedding import Embedder  # noqa: PLC0415
    from blindgate_rag.evaluation import PLOTS, plotting  # noqa: PLC0415
    from blindgate_rag.progress import shown  # noqa: PLC0415

    named = RANKERS if rankers is None else tuple(dict.fromkeys(name.strip() for name in rankers.split(",")))
    if unknown := [name for name in named if name not in RANKERS]:
        message = f"{unknown[0]!r} is none of {', '.join(RANKERS)}"
        raise typer.BadParameter(message, param_hint="--rankers")
    chosen = [name for name in named if encrypted or name not in ENCRYPTED]
    if not chosen:
        message = "leaves none of --rankers"
        raise typer.BadParameter(message, param_hint="--no-encrypted")
    require_folder(plot)
    form = "svg"
    if plot is not None:
        form = plot.suffix.lower().removeprefix(".")
        if form not in PLOTS:
            message = f"{plot.name} should end in one of {', '.join(f'.{known}' for known in PLOTS)}"
            raise typer.BadParameter(message, param_hint="--plot")
        plotting()
    with shown(show=None) as advance:
        model = None if embedder is None else Embedder.open(embedder)
        found = evaluate_folder(folder, chosen, split=split, embedder=model, progress=advance)
    if plot is not None:
        plot.write_bytes(found.evaluation.plot(form))
    if as_json:
        show_one(found.to_dict(), as_json=True)
    else:
        _show_evaluation(found)


def _show_evaluation(found: "RetrievalEvaluation") -> None:
    from blindgate_rag.evaluation import MEASURES  # noqa: PLC0415

    evaluation = found.evaluation
    costs = any(score.node_seconds is not None for score in evaluation.scores)
    rows: list[dict[str, Any]] = []
    for score in evaluation.scores:
        row: dict[str, Any] = {"ranker": score.ranker}
        row |= {title: getattr(score, name) for name, title in MEASURES.items()} | {"ms": score.milliseconds}
        if costs:
            node = None if score.node_seconds is None else score.node_seconds * 1e3
            row |= {"bytes_up": score.bytes_up, "bytes_down": score.bytes_down, "node's_CPU_ms": node}
        rows.append(row)
    show(rows, as_json=False)
    note(
        f"{evaluation.collection}: {evaluation.documents} documents, {found.passages} passages, {evaluation.questions} questions"
    )
    if evaluation.unanswerable:
        note(f"questions without a relevant document, which count 0, as in BEIR: {evaluation.unanswerable}")
    if evaluation.not_in_corpus:
        note(
            f"relevant documents that are not in corpus.jsonl, so that no ranker finds them: {evaluation.not_in_corpus}"
        )
    note(
        f"embedded by {found.embedder}, {found.embedder_digest}: {found.question_milliseconds:.3g} ms a question, not in ms"
    )
