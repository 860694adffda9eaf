"""The app people write first: FastAPI, the model called in the route, one image at a time."""

import os

import uvicorn
from fastapi import FastAPI, Request

from bench.peers.model import Answer, Model, build


def create_app(model: Model) -> FastAPI:
    """One route around the model; it blocks the loop, which on few cores is faster than threads."""
    app = FastAPI()

    @app.post("/detect")
    async def detect(request: Request) -> Answer:
        return model.predict([model.decode(await request.body())])[0]

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(build()), port=int(os.environ["BENCH_PORT"]), access_log=False)
