"""A WebSocket server and a client of the library `websockets`.

python websockets.py serve        prints its port and serves until its standard input ends
python websockets.py connect URL  opens tunnels at ws://... and prints what their user gets, one JSON value per line
"""

import sys

# This file must not shadow the library of the same name.
sys.path.pop(0)

import asyncio
import json
import os

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

PAGES = {"/403": 403, "/500": 500, "/502": 502}


def reject(connection, request):
    if request.path in PAGES:
        response = connection.respond(PAGES[request.path], "<h1>db-7.internal</h1>")
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html"
        return response


async def echo(connection):
    path = connection.request.path
    if path == "/greet":
        await connection.send("early")
    if path == "/close":
        return await connection.close(4001, "enough")
    if path == "/abort":
        await connection.send("half")
        return connection.transport.abort()
    async for message in connection:
        await connection.send(message)


async def run_server():
    async with serve(echo, "127.0.0.1", 0, process_request=reject, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)


async def open_tunnel(url, path):
    try:
        async with connect(url + path, max_size=None, proxy=None) as connection:
            if path == "/greet":
                return {"received": await connection.recv(), "protocol": connection.subprotocol}
            if path in ("/close", "/abort"):
                messages = [message async for message in connection]
                await connection.recv()
                return {"received": messages}
            texts = ["", "one", "\u00e4\u00f6\u00fc", "x" * 100_000]
            blobs = [b"", bytes(range(256)), os.urandom(3_000_000)]
            for message in texts + blobs:
                await connection.send(message)
            echoed = [await connection.recv() for _ in texts + blobs]
            await (await connection.ping())
            await connection.close()
            return {"same": echoed == texts + blobs, "code": connection.close_code}
    except InvalidStatus as error:
        response = error.response
        return {"status": response.status_code, "body": response.body.decode()}
    except ConnectionClosed as error:
        received = error.rcvd
        return {"closed": received and [received.code, received.reason]}


async def run_client(url):
    for path in ["/echo", "/greet", "/close", "/abort", *PAGES]:
        print(json.dumps(await open_tunnel(url, path)), flush=True)
    many = await asyncio.gather(*(open_tunnel(url, "/echo") for _ in range(20)))
    print(json.dumps(many), flush=True)


asyncio.run(run_server() if sys.argv[1] == "serve" else run_client(sys.argv[2]))
