# fastapi, uvicorn
import uvicorn
import sys
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    name: str
    price: float


@app.post("/items")
def create(item: Item):
    return item


@app.get("/crash")
def crash():
    raise RuntimeError("db-7.internal is down")


@app.get("/private")
def private():
    raise HTTPException(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})


@app.get("/missing")
def missing():
    raise HTTPException(404, {"code": "item_not_found", "message": "There is no item 7."})


uvicorn.run(app, port=int(sys.argv[1]), log_level="critical")
