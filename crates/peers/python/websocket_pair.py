"""A WebSocket server and a client of it, by websockets.

`serve HOST PORT` serves until killed; `call HOST PORT` ends with status 0 when all was right.
"""

import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve as listen

LARGE = 1 << 20


def answer(socket):
    for message in socket:
        if message == "end":
            socket.close(4321, "as you wish")
        else:
            socket.send(message)


def serve(host, port):
    with listen(answer, host, port, max_size=4 * LARGE, compression=None) as server:
        server.serve_forever()


def call(host, port):
    uri = f"ws://{host}:{port}/talk?x=1"
    options = {"max_size": 4 * LARGE, "compression": None, "open_timeout": 10, "close_timeout": 10}
    with connect(uri, **options) as socket:
        socket.send("hello \u00fc")
        assert socket.recv(10) == "hello \u00fc"
        large = bytes(range(256)) * (LARGE // 256)
        socket.send(large)
        assert socket.recv(20) == large
        for number in range(100):
            socket.send(str(number))
        assert [socket.recv(10) for _ in range(100)] == [str(number) for number in range(100)]
        assert socket.ping().wait(10)
        socket.send("end")
        try:
            socket.recv(10)
            raise AssertionError("was not closed")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4321, "as you wish"), closed
    # The client closes.
    with connect(uri, **options) as socket:
        socket.send("x")
        assert socket.recv(10) == "x"
        socket.close(1001, "bye")
        assert socket.close_code == 1001, socket.close_code


{"serve": serve, "call": call}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
