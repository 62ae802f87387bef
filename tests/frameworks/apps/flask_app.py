# flask
import sys

from flask import Flask, abort, request

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1_000_000


@app.post("/items")
def create():
    return request.get_json()


@app.get("/crash")
def crash():
    raise RuntimeError("db-7.internal is down")


@app.get("/private")
def private():
    abort(401)


app.run(port=int(sys.argv[1]))
