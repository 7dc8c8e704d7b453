"""`blindgate rag ask`: from a question to an answer with citations."""

from typing import Annotated, Any

import typer

from blindgate.commands.corpora import AtLeast, CorpusPassphrase, EmbedderFolder, SearchedBy, SearchedPath, searched
from blindgate.commands.finding import Count, Tokens, Wheres, note_search, place_of, rows_of, several, where_of
from blindgate.commands.options import Connect, DataClass, Json, asks_gateway
from blindgate.output import note, printable, show_along, show_one


@asks_gateway
def ask(
    connect: Connect,
    corpus: SearchedPath,
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[str, typer.Option("--model", help="A chat's name: see 'blindgate models list'.")],
    k: Count = None,
    where: Wheres = None,
    tokens: Tokens = None,
    searched_by: SearchedBy = None,
    at_least: AtLeast = 0,
    data_class: DataClass = None,
    instructions: Annotated[
        str | None, typer.Option("--instructions", help="Words of yours for the model: the language, the form.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="No longer answer than this, in the model's tokens.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, max=2, help="0: the likeliest word each time.")
    ] = None,
    recogniser: Annotated[
        list[str] | None,
        typer.Option(
            "--recogniser",
            metavar="presidio:MODEL",
            help="Take out names and places as well, by Presidio with this spaCy pipeline: a folder, or an installed package.",
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait before giving up.")] = None,
    embedder: EmbedderFolder = None,
    passphrase: CorpusPassphrase = None,
    as_json: Json = False,
) -> None:
    """Answer a question from a corpus, with citations; the answer is printed while it is written.

    Passages are found as 'blindgate rag search' finds them; identifiers in them and in the question become placeholders, as your
    policy's [redaction] says; then they are sealed to a node that proved what it is. The answer has what was taken out in its place
    again. It is a beginning, and no more, until the last line says that its receipt holds. Ctrl-C cancels the job.
    """
    from blindgate_rag.redaction.named import opened as opened_recogniser  # noqa: PLC0415  (help must not wait)

    # Before anything is searched: a corpus elsewhere would have learnt of a question that is not asked.
    recognisers = [opened_recogniser(text, "--recogniser") for text in recogniser or ()]
    how: dict[str, Any] = {"searched_by": searched_by, "data_class": data_class, "at_least": at_least}
    with connect() as client, searched(lambda: client, corpus, passphrase, embedder, **how) as taken:
        given: dict[str, Any] = {
            "corpus": taken,
            "model": model,
            "k": k,
            "where": where_of(where),
            "tokens": tokens,
            "instructions": instructions,
            "recognisers": recognisers,
            "data_class": data_class,
            "timeout": timeout,
            "max_completion_tokens": max_tokens,
            "temperature": temperature,
        }
        if as_json:
            answer = client.ask(question, stream=False, **given)
        else:
            with client.ask(question, stream=True, **given) as stream:
                show_along(stream)
                answer = stream.answer
    if as_json:
        told = {
            "answer": answer.text,
            "citations": [
                {"number": one.number} | row
                for one, row in zip(answer.citations, rows_of([c.hit for c in answer.citations]), strict=True)
            ],
            "unresolved": answer.unresolved,
            "withheld": answer.withheld,
            "finish_reason": answer.finish_reason,
            "redacted": dict(answer.redacted),
            "not_protected": answer.not_protected,
            "leakage": str(answer.leakage),
            "missing": answer.hits.missing,
            "job": answer.job.id,
            "node": answer.receipt.document.node,
        }
        show_one(told, as_json=True)
        return
    for one in answer.citations:
        typer.echo(printable(f"[{one.number}] {place_of(one.hit.source, one.hit.page)} (passage {one.hit.passage})"))
    if answer.finish_reason == "length":
        note("cut off: the model came to the most tokens that it may write")
    if answer.unresolved:
        note(f"taken out: citations of passages that there are not: {several(answer.unresolved)}")
    if answer.withheld:
        note(f"not put back, inside of an address: {several(answer.withheld)}")
    redacted = ", ".join(f"{count} {name}" for name, count in answer.redacted.items()) or "nothing"
    note(f"redacted: {redacted}; not looked for: {', '.join(answer.not_protected) or 'nothing'}")
    note_search(answer.hits)
    note(f"job {answer.job.id}, answered by {answer.receipt.document.node}: its receipt holds")
