"""The order of the checks."""

from collections.abc import Iterator

from blindgate_gateway.check import documents, host, rows, server, store
from blindgate_gateway.check.findings import Finding, Progress, State, fault, well
from blindgate_gateway.database import Database, database_fault
from blindgate_gateway.parts import connect, open_blobs
from blindgate_gateway.settings import Settings
from blindgate_protocol.errors import BlindgateError


def examine(settings: Settings, *, read_data: bool, progress: Progress) -> Iterator[Finding]:
    """Check a gateway. With `read_data` every blob is read and digested, and every signed document verified again.

    Raises nothing for what is wrong with the gateway: that is a finding.
    """
    yield well("settings", "they can be read")
    yield from host.look(settings)
    try:
        database = connect(settings)
    except BlindgateError as error:
        yield fault("database", str(error), "install what is missing")
        return
    try:
        reached = list(server.reach(settings, database))
        yield from reached
        is_usable = not any(finding.state is State.FAULT for finding in reached)
        if is_usable:
            yield from _look_into(settings, database, read_data=read_data, progress=progress)
        blobs = open_blobs(settings)
        yield from store.reach(settings, blobs)
        if is_usable:
            yield from store.look(database, blobs, read_data=read_data, progress=progress)
    except BlindgateError as error:
        yield fault("store", str(error), "see that the store of blobs can be reached, and check again")
    except Exception as error:
        said = database_fault(error)
        if said is None:
            raise
        yield fault("database", f"it cannot be read: {said}", server.RESTORE)
    finally:
        database.close()


def _look_into(settings: Settings, database: Database, *, read_data: bool, progress: Progress) -> Iterator[Finding]:
    yield from server.look(settings, database)
    yield from rows.look(settings, database)
    yield from documents.look(settings, database, every_job=read_data, progress=progress)
