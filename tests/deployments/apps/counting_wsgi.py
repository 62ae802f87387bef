"""Echoes the body of a POST and counts it."""

import threading

lock = threading.Lock()
count = 0


def app(environ, start_response):
    global count
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        with lock:
            count += 1
    else:
        body = str(count).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
