"""`blindgate audit key`: the life of a key, each event proven, and whether its owner's statements are whole.

The states are those of NIST SP 800-57 Part 1, revision 5, section 7, for a key that encrypts nothing and is evaluated with:

| event | state from then on |
|---|---|
| `key.registered` | pre-activation |
| `key.activated`, `key.resumed` | active |
| `key.suspended` | suspended |
| `key.superseded` | deactivated: another key took its place; work that was begun may end |
| `key.deactivated` | deactivated |
| `key.compromised` | compromised |
| `key.destruction-scheduled` | as before, until a time that is set |
| `key.destroyed` | destroyed, with the proof that the blob is gone |
| `key.uploaded`, `key.sent`, `key.evicted` | as before: where copies of the key are |
"""

from typing import Annotated

import typer

from blindgate_audit.answers import key_of
from blindgate_audit.chains import Chains
from blindgate_audit.commands.reporting import Open, Place, conclude, report, reports
from blindgate_audit.report import Question


@reports
def key_(
    reading: Open,
    place: Place,
    evaluation_key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="The key's digest, sha256:…, or its first digits: as many as tell it apart."
        ),
    ],
) -> None:
    """Show the life of an evaluation key, from the log, each event proven to stand there.

    The column `proof` says: in log; body altered (the log committed to another); erased (as a later event says); missing. Below the
    table: gaps in the statements that the key's owner numbered and signed, the state that the last event left, and the key that
    took this one's place where its owner named one.

    Exit status 1 when a body is altered or missing, or a gap shows.
    """
    with reading() as log:
        digest = key_of(evaluation_key, log.answers, log.tree)
        question = Question(object=f"key:{digest}")
        chains = Chains()
        tally = report(log, question, place, what=f"the key {digest}", chains=chains)
    name = f"key:{digest}"
    state, statement = chains.last_state(name), chains.last_statement(name)
    if state is not None:
        place.say(f"Last state: {state}.")
    successor = chains.successor(name)
    if successor is not None:
        place.say(f"The key that took its place, as its owner says: {successor}.")
    if statement is not None:
        whole = "without a gap" if not chains.count else "with gaps"
        place.say(f"Its owner's statements, as the log tells of them: {whole}, the last is number {statement}.")
        place.say(
            "Whether later ones were left out is known to its owner, who counts them (`blindgate audit monitor`)."
        )
    conclude(place, tally, chains)
