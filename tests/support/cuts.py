"""A wire that breaks: a relay of bytes that cuts connections, each after as many bytes as it was told."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Cutter:
    """A TCP relay to `port` on this machine, as a context manager.

    Attributes:
        cuts: how many connections it has cut.
    """

    def __init__(self, port: int, after: Callable[[], int], most: int) -> None:
        """Relay to `port`; `after` says of each connection how many bytes get through, until there were `most` cuts."""
        self._target = port
        self._after, self._most = after, most
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._listener)
        for thread in iter(lambda: self._threads.pop() if self._threads else None, None):
            for end in self._ends:
                _end(end)
            thread.join()
        for end in (*self._ends, self._listener):
            end.close()

    def _start(self, target: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=target, args=given)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(client)
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._ends.append(server)
            self._start(self._carry, client, server, self._after())

    def _carry(self, client: socket.socket, server: socket.socket, most: int | None) -> None:
        back = threading.Thread(target=self._relay, args=(server, client, None))
        back.start()
        self._relay(client, server, most)
        back.join()
        # Closed with bytes unread, a connection is reset: whoever still sends learns it at once.
        client.close()
        server.close()

    def _may_cut(self) -> bool:
        with self._lock:
            if self.cuts == self._most:
                return False
            self.cuts += 1
            return True

    def _relay(self, source: socket.socket, target: socket.socket, most: int | None) -> None:
        try:
            while data := source.recv(1 << 16):
                if most is not None and len(data) >= most and self._may_cut():
                    target.sendall(data[:most])
                    break
                target.sendall(data)
                most = None if most is None else max(0, most - len(data))
        except OSError:
            pass
        _end(source)
        _end(target)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
