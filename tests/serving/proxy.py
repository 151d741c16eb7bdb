"""A connection that is slow, or breaks."""

import contextlib
import socket
import threading


class Proxy:
    """Passes bytes on to a server, and stops after so many of them until it is told what to do.

    Attributes:
        address: where clients connect to.
        stalled: set once a connection has been stopped.
    """

    def __init__(self, server, passed):
        host, port = server.split(":")
        self._server = host, int(port)
        self._passed = passed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.stalled = threading.Event()
        self._go_on = threading.Event()
        self._sockets = []
        self._threads = []
        self._start(self._accept)

    def _start(self, target, *args):
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            self._start(self._pass, client, server, self._passed)
            self._start(self._pass, server, client, None)

    def _pass(self, source, target, limit):
        try:
            while data := source.recv(4096):
                if limit is not None:
                    limit -= len(data)
                    if limit < 0 and not self._go_on.is_set():
                        self.stalled.set()
                        self._go_on.wait(60)
                target.sendall(data)
        except OSError:
            pass

    def resume(self):
        self._go_on.set()

    def close(self):
        for connection in [*self._sockets, self._listener]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._go_on.set()
        for thread in self._threads:
            thread.join(30)
