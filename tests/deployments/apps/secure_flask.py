"""Redirects to https, as Flask applications behind a proxy are set up by the documentation of Flask."""

from flask import Flask, redirect, request
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)


@app.before_request
def only_https():
    if not request.is_secure:
        return redirect(request.url.replace("http://", "https://", 1), code=301)


@app.get("/")
def index():
    return f"secure {request.host} {request.remote_addr}"
