"""A gRPC server and a client of it, by grpcio, with messages of plain bytes.

`serve HOST:PORT` serves until killed; `call HOST:PORT` makes every kind of call and ends with
status 0 when all were right.
"""

import sys
import threading
from concurrent import futures

import grpc

LARGE = 16 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", LARGE + 1024),
    ("grpc.max_send_message_length", LARGE + 1024),
]
DETAILS = "no such thing: \u00fcber\t100 %"


def echo(request, context):
    context.send_initial_metadata((("x-first", "1"), ("x-raw-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-last", "2"), ("x-last-bin", b"\x01\xfe")))
    return request


def refuse(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.NOT_FOUND, DETAILS)


def repeat(request, context):
    for number in range(100):
        yield request + str(number).encode()


def join(requests, context):
    return b"".join(requests)


def converse(requests, context):
    for request in requests:
        yield request.upper()


def fail_after_two(request, context):
    yield b"1"
    yield b"2"
    context.abort(grpc.StatusCode.DATA_LOSS, "gone")


def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(4), options=OPTIONS)
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Converse": grpc.stream_stream_rpc_method_handler(converse),
        "FailAfterTwo": grpc.unary_stream_rpc_method_handler(fail_after_two),
    }
    handler = grpc.method_handlers_generic_handler("peer.Pair", handlers)
    server.add_generic_rpc_handlers((handler,))
    assert server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def call(address):
    channel = grpc.insecure_channel(address, options=OPTIONS)
    echo = channel.unary_unary("/peer.Pair/Echo")

    answer, info = echo.with_call(b"hello", metadata=(("x-in-bin", b"\xff\x00"),), timeout=10)
    assert answer == b"hello"
    first, last = dict(info.initial_metadata()), dict(info.trailing_metadata())
    assert first["x-first"] == "1" and first["x-raw-bin"] == b"\x00\xff", first
    assert last["x-last"] == "2" and last["x-last-bin"] == b"\x01\xfe", last

    assert echo(b"", timeout=10) == b""
    large = bytes(range(256)) * (LARGE // 256)
    assert echo(large, timeout=60) == large

    for _ in range(3):
        try:
            channel.unary_unary("/peer.Pair/Refuse")(b"x", timeout=10)
            raise AssertionError("was not refused")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            assert error.details() == DETAILS, error
            assert ("x-why", "because") in error.trailing_metadata(), error

    answers = list(channel.unary_stream("/peer.Pair/Repeat")(b"a", timeout=10))
    assert answers == [b"a%d" % number for number in range(100)], answers

    parts = (b"%d," % number for number in range(100))
    joined = channel.stream_unary("/peer.Pair/Join")(parts, timeout=10)
    assert joined == b"".join(b"%d," % number for number in range(100)), joined

    # Each part is sent when the answer to the one before has come: nothing may be held back.
    heard = []
    turns = threading.Semaphore(1)

    def talk():
        for number in range(20):
            turns.acquire()
            yield b"word %d" % number

    for answer in channel.stream_stream("/peer.Pair/Converse")(talk(), timeout=20):
        heard.append(answer)
        turns.release()
    assert heard == [b"WORD %d" % number for number in range(20)], heard

    got = []
    try:
        for answer in channel.unary_stream("/peer.Pair/FailAfterTwo")(b"", timeout=10):
            got.append(answer)
        raise AssertionError("did not fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DATA_LOSS and error.details() == "gone", error
    assert got == [b"1", b"2"], got


{"serve": serve, "call": call}[sys.argv[1]](sys.argv[2])
