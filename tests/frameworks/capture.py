"""Captures the default errors of web frameworks: one JSON file each in tests/frameworks/captured.

python capture.py PYTHON NODE_MODULES [FRAMEWORK...]

PYTHON is an interpreter that has the packages of requirements.txt, NODE_MODULES a directory with those of package.json. PHP and
Sinatra come from Debian, axum is built with cargo. Each application of apps/ runs as its framework is set up by default; where it
knows a development mode, in that and in production mode. docs/upstream-errors.md shows what clients get for these bodies.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
APPS = HERE / "apps"
LARGE = b'{"name": "' + b"x" * 3_000_000 + b'"}'

# Name of the case, method, path, body (sent as JSON).
CASES = [
    ("unknown path", "GET", "/nowhere", None),
    ("wrong method", "DELETE", "/items", None),
    ("malformed JSON", "POST", "/items", b'{"name": '),
    ("validation", "POST", "/items", b'{"price": "much"}'),
    ("validation of the whole", "POST", "/items", b'{"name": "pen", "price": -1}'),
    ("too large", "POST", "/items", LARGE),
    ("path parameter", "GET", "/items/seven", None),
    ("query parameter", "GET", "/pages?number=seven", None),
    ("not authorised", "GET", "/private", None),
    ("not found", "GET", "/missing", None),
    ("throttled", "GET", "/busy", None),
    ("unhandled exception", "GET", "/crash", None),
]


def version_of(python, package):
    script = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.check_output([python, "-c", script], text=True).strip()


def frameworks(python, modules):
    def js(package):
        return json.loads((Path(modules) / package / "package.json").read_text())["version"]

    def debian(package):
        version = subprocess.check_output(["dpkg-query", "-W", "-f", "${Version}", package], text=True)
        return version.split(":")[-1].split("-")[0].split("+")[0]

    axum = next(
        (line.split('"')[1] for name, line in pairs((APPS / "axum/Cargo.lock").read_text()) if name == 'name = "axum"'), "?"
    ) if (APPS / "axum/Cargo.lock").exists() else "?"
    production = {"NODE_ENV": "production"}
    yield "fastapi", "FastAPI", version_of(python, "fastapi"), [python, "fastapi_app.py"], {}
    yield "django", "Django REST framework", version_of(python, "djangorestframework"), [python, "django_app.py"], {}
    yield "flask", "Flask", version_of(python, "flask"), [python, "flask_app.py"], {}
    yield "express", "Express", js("express"), ["node", "express_app.mjs"], {}
    yield "express-production", "Express (production)", js("express"), ["node", "express_app.mjs"], production
    yield "nest", "NestJS", js("@nestjs/core"), ["node", "nest_app.mjs"], {}
    yield "fastify", "Fastify", js("fastify"), ["node", "fastify_app.mjs"], {}
    yield "koa", "Koa", js("koa"), ["node", "koa_app.mjs"], {}
    yield "php", "PHP (built-in server)", debian("php8.2-cli"), ["php"], {}
    yield "sinatra", "Sinatra", debian("ruby-sinatra"), ["ruby", "sinatra_app.rb"], {}
    yield "sinatra-production", "Sinatra (production)", debian("ruby-sinatra"), ["ruby", "sinatra_app.rb"], {"APP_ENV": "production"}
    yield "axum", "axum", axum, [os.environ.get("AXUM_APP", "axum/target/debug/axum-app")], {}


def pairs(text):
    lines = text.splitlines()
    return zip(lines, lines[1:])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the application does not listen")


def error_of(port, method, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Accept": "application/json", "Host": "api.example.com"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type"), response.read()
    except OSError:
        # Some servers refuse a large body by closing the connection.
        return None
    finally:
        connection.close()


def applies(case, status, media_type, errors):
    """Whether the application has what the case needs; otherwise it says that it does not know the path."""
    if case == "too large":
        return status in (400, 413)
    if case == "wrong method":
        return status in (404, 405)
    unknown_path = (errors[0]["status"], errors[0]["media_type"]) if errors else None
    return (status, media_type) != unknown_path or (case == "not found" and media_type == "application/json")


def capture(folder, modules, name, title, version, command, environment):
    port = free_port()
    if command[0] == "php":
        command = ["php", "-S", f"127.0.0.1:{port}", "-t", ".", "php_app.php"]
    else:
        command = [*command, str(port)]
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        errors = []
        for case, *request in CASES:
            found = error_of(port, *request)
            if found is None or found[0] < 400:
                continue
            if not applies(case, *found[:2], errors):
                continue
            status, media_type, body = found
            text = body.decode()
            for place in (os.path.realpath(modules), modules, os.path.realpath(folder), str(folder)):
                text = text.replace(place, "/srv/app" + ("/node_modules" if "node_modules" in place else ""))
            text = text.replace(f"127.0.0.1:{port}", "127.0.0.1:3000")
            error = {"case": case, "status": status, "media_type": media_type, "body": text}
            # Pages are long: their end says nothing more.
            if len(text) > 2000:
                error["body"] = text[:2000]
                error["cut"] = True
            errors.append(error)
    finally:
        process.kill()
        process.wait()
    target = HERE / "captured" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    content = {"framework": title, "version": version, "errors": errors}
    target.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(f"{name}: {len(errors)} errors")


def main():
    python, modules, *wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as parent:
        # Node looks for packages beside the files.
        folder = Path(parent) / "app"
        subprocess.check_call(["cp", "-r", APPS, folder])
        (folder / "node_modules").symlink_to(os.path.realpath(modules))
        for name, *rest in frameworks(python, modules):
            if not wanted or name in wanted:
                capture(folder, modules, name, *rest)


main()
