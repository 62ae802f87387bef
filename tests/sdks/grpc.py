"""A gRPC server and a client of the library `grpcio`; messages are bytes, so no code is generated.

python grpc.py serve [CERT KEY]     prints its port and serves until its standard input ends
python grpc.py ask ADDRESS [CA]     makes calls of every kind and prints what their caller gets, one JSON value per line

With PEM files both use TLS; the server name is `calls.test`.
"""

import sys

# This file must not shadow the library of the same name.
sys.path.pop(0)

import json
import os
import queue
import threading
import time
from concurrent import futures

import grpc

BLOB = os.urandom(3_000_000)


class Methods:
    def unary(self, request, context):
        asked = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-first", asked.get("x-asked", ""))])
        context.set_trailing_metadata([("x-last", "behind"), ("x-last-bin", b"\x00\xff")])
        return request[::-1]

    def upload(self, requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def download(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number * 1000

    def talk(self, requests, context):
        for request in requests:
            yield request.upper()

    def greet(self, requests, context):
        # Before any message of the client.
        yield b"early"
        for request in requests:
            yield request
        yield b"late"

    def listen(self, requests, context):
        # Responds after all messages of the client.
        yield b" ".join(requests)

    def enough(self, requests, context):
        # Responds before the client has sent everything.
        return next(requests)

    def abort(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such \u00f6rder")

    def half(self, request, context):
        yield b"half"
        context.abort(grpc.StatusCode.DATA_LOSS, "it is gone")

    def hang(self, request, context):
        threading.Event().wait()

    def die(self, request, context):
        yield b"begun"
        # The message must be sent first.
        time.sleep(0.3)
        os._exit(1)


STREAMS = {
    "unary": (False, False), "upload": (True, False), "download": (False, True), "talk": (True, True),
    "greet": (True, True), "listen": (True, True), "enough": (True, False), "abort": (False, False),
    "half": (False, True), "hang": (False, False), "die": (False, True),
}  # fmt: skip

HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Everything(grpc.GenericRpcHandler):
    """Accepts any service name."""

    def service(self, details):
        method = details.method.rsplit("/", 1)[-1]
        if method in STREAMS:
            return HANDLERS[STREAMS[method]](getattr(Methods(), method))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def serve(*shown):
    server = grpc.server(futures.ThreadPoolExecutor(40))
    server.add_generic_rpc_handlers([Everything()])
    if shown:
        cert, key = map(read, shown)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    os._exit(0)


class Caller:
    def __init__(self, address, trusted=None):
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        if trusted:
            options.append(("grpc.ssl_target_name_override", "calls.test"))
            self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(read(trusted)), options)
        else:
            self.channel = grpc.insecure_channel(address, options)

    def call(self, method, sent, pause=0, **more):
        """One call of any kind; where `pause` is None, each message of a stream waits for the reply to the previous one."""
        streams = STREAMS.get(method.rsplit("/", 1)[-1], (False, False))
        kind = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, False): self.channel.stream_unary,
            (True, True): self.channel.stream_stream,
        }[streams]
        heard, turns = [], queue.Queue()

        def one_by_one():
            for message in sent:
                yield message
                if pause is None:
                    turns.get()
                else:
                    time.sleep(pause)

        argument = one_by_one() if streams[0] else sent
        told = {}
        try:
            if streams[1]:
                call = kind("/" + method)(argument, timeout=20, **more)
                for message in call:
                    heard.append(message)
                    turns.put(None)
            else:
                answer, call = kind("/" + method).with_call(argument, timeout=20, **more)
                heard.append(answer)
            told["metadata"] = [
                dict(call.initial_metadata()).get("x-first"),
                *(value for key, value in call.trailing_metadata() if key.startswith("x-last")),
            ]
        except grpc.RpcError as error:
            call = error
        return heard, call.code().name, call.details(), told.get("metadata")


def text(heard):
    return [message[:20].decode(errors="replace") for message in heard]


def ask(address, trusted=None):
    caller = Caller(address, trusted)

    def tell(method, sent, **more):
        heard, code, details, _ = caller.call(method, sent, **more)
        print(json.dumps({"method": method, "heard": text(heard), "code": code, "details": details}), flush=True)

    heard, code, _, metadata = caller.call("echo/unary", BLOB, metadata=[("x-asked", "yes")])
    same = heard == [BLOB[::-1]]
    metadata = [value.hex() if isinstance(value, bytes) else value for value in metadata]
    print(json.dumps({"same": same, "code": code, "metadata": metadata}), flush=True)
    tell("echo/unary", b"zipped" * 1000, compression=grpc.Compression.Gzip)
    tell("echo/unary", b"")
    tell("echo/upload", [b"x" * 100_000] * 30)
    heard, code, _, _ = caller.call("echo/download", b"500")
    print(json.dumps({"heard": len(heard), "code": code}), flush=True)
    # Each message is sent after the reply to the previous one.
    tell("echo/talk", [b"one", b"two", b"three"], pause=None)
    tell("echo/greet", [b"one", b"two"], pause=None)
    # A call may be idle, before and after the response starts.
    tell("echo/listen", [b"one", b"two"], pause=1)
    tell("echo/talk", [b"one", b"two"], pause=1)
    tell("echo/enough", [b"one"] * 5, pause=0.1)
    # Statuses of the server are forwarded unchanged.
    tell("echo/abort", b"")
    tell("echo/half", b"")
    tell("echo/nothing", b"")
    # Statuses that the gateway sends instead.
    tell("dead/unary", b"")
    tell("impatient/hang", b"")
    tell("denied/unary", b"")
    tell("limited/unary", b"abc")
    tell("limited/unary", b"abc")
    tell("nowhere/unary", b"")
    with futures.ThreadPoolExecutor(30) as pool:
        many = list(pool.map(lambda n: caller.call("echo/talk", [b"%d" % n] * 20, pause=None)[:2], range(30)))
    right = all(heard == [b"%d" % n] * 20 and code == "OK" for n, (heard, code) in enumerate(many))
    print(json.dumps({"many": right}), flush=True)
    # The server process exits during the call.
    tell("echo/die", b"")
    tell("echo/unary", b"")


serve(*sys.argv[2:]) if sys.argv[1] == "serve" else ask(*sys.argv[2:])
