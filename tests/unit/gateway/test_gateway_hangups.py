"""Whether somebody who was made to wait is still there."""

import socket

from blindgate_gateway.hangups import is_gone


def test_who_closed_its_connection_is_gone() -> None:
    """Wholly, or for sending; and who is there is there, also with bytes that nobody has read yet."""
    near, far = socket.socketpair()
    with near, far:
        assert not is_gone({"gunicorn.socket": near})
        far.send(b"GET")
        assert not is_gone({"gunicorn.socket": near})
        far.shutdown(socket.SHUT_WR)
        assert is_gone({"gunicorn.socket": near})
    assert is_gone({"gunicorn.socket": near})


def test_a_connection_that_cannot_be_looked_at_stands() -> None:
    """Under another server than gunicorn, and in tests."""
    assert not is_gone({})
