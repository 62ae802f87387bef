"""A gRPC server and a client of the library `grpcio`; messages are bytes, so no code is generated.

python grpc.py serve [CERT KEY]     prints its port and serves until its standard input ends
python grpc.py call ADDRESS [CA]    makes calls of every kind and prints their results, one JSON value per line

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
        request_metadata = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-first", request_metadata.get("x-echo", ""))])
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


class AnyService(grpc.GenericRpcHandler):
    """Accepts any service name."""

    def service(self, details):
        method = details.method.rsplit("/", 1)[-1]
        if method in STREAMS:
            return HANDLERS[STREAMS[method]](getattr(Methods(), method))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def serve(*pem_files):
    server = grpc.server(futures.ThreadPoolExecutor(40))
    server.add_generic_rpc_handlers([AnyService()])
    if pem_files:
        cert, key = map(read, pem_files)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    os._exit(0)


class Client:
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
        received, replies = [], queue.Queue()

        def paced():
            for message in sent:
                yield message
                if pause is None:
                    replies.get()
                else:
                    time.sleep(pause)

        argument = paced() if streams[0] else sent
        metadata = None
        try:
            if streams[1]:
                call = kind("/" + method)(argument, timeout=20, **more)
                for message in call:
                    received.append(message)
                    replies.put(None)
            else:
                reply, call = kind("/" + method).with_call(argument, timeout=20, **more)
                received.append(reply)
            metadata = [
                dict(call.initial_metadata()).get("x-first"),
                *(value for key, value in call.trailing_metadata() if key.startswith("x-last")),
            ]
        except grpc.RpcError as error:
            call = error
        return received, call.code().name, call.details(), metadata


def text(received):
    return [message[:20].decode(errors="replace") for message in received]


def make_calls(address, trusted=None):
    client = Client(address, trusted)

    def report(method, sent, **more):
        received, code, details, _ = client.call(method, sent, **more)
        print(json.dumps({"method": method, "received": text(received), "code": code, "details": details}), flush=True)

    received, code, _, metadata = client.call("echo/unary", BLOB, metadata=[("x-echo", "yes")])
    same = received == [BLOB[::-1]]
    metadata = [value.hex() if isinstance(value, bytes) else value for value in metadata]
    print(json.dumps({"same": same, "code": code, "metadata": metadata}), flush=True)
    report("echo/unary", b"zipped" * 1000, compression=grpc.Compression.Gzip)
    report("echo/unary", b"")
    report("echo/upload", [b"x" * 100_000] * 30)
    received, code, _, _ = client.call("echo/download", b"500")
    print(json.dumps({"received": len(received), "code": code}), flush=True)
    # Each message is sent after the reply to the previous one.
    report("echo/talk", [b"one", b"two", b"three"], pause=None)
    report("echo/greet", [b"one", b"two"], pause=None)
    # A call may be idle, before and after the response starts.
    report("echo/listen", [b"one", b"two"], pause=1)
    report("echo/talk", [b"one", b"two"], pause=1)
    report("echo/enough", [b"one"] * 5, pause=0.1)
    # Statuses of the server are forwarded unchanged.
    report("echo/abort", b"")
    report("echo/half", b"")
    report("echo/nothing", b"")
    # Statuses that the gateway sends instead.
    report("dead/unary", b"")
    report("impatient/hang", b"")
    report("denied/unary", b"")
    report("limited/unary", b"abc")
    report("limited/unary", b"abc")
    report("nowhere/unary", b"")
    with futures.ThreadPoolExecutor(30) as pool:
        many = list(pool.map(lambda n: client.call("echo/talk", [b"%d" % n] * 20, pause=None)[:2], range(30)))
    all_equal = all(received == [b"%d" % n] * 20 and code == "OK" for n, (received, code) in enumerate(many))
    print(json.dumps({"many": all_equal}), flush=True)
    # The server process exits during the call.
    report("echo/die", b"")
    report("echo/unary", b"")


serve(*sys.argv[2:]) if sys.argv[1] == "serve" else make_calls(*sys.argv[2:])
