"""Swaps in a real process: with real models under load and by SIGHUP, their memory, and Triton's clients."""

import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.grpc.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.support.process import Program
from tests.support.served import ROOT

CONNECTIONS = 8
SWAPS = 4
KEPT = 1.15  # times what was resident after the second swap: pools keep some memory, but no model
ADMIN = {"X-API-Key": "chief"}
IMAGE = (ROOT / "samples/shapes-1.jpg").read_bytes()
Start = Callable[..., Program]


def resident(program: Program) -> float:
    text = program.client.get("/metrics").text
    sample = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    assert sample
    return float(sample[1])


def resident_without_the_old(program: Program, swaps: int) -> float:
    """Resident bytes once the old model of so many swaps was released, by the log."""
    until = time.monotonic() + 60
    while program.log.count(" was released ") < swaps:
        assert time.monotonic() < until, program.log
        resident(program)
    return resident(program)


@dataclass
class Load:
    """Requests over one connection after the other until `stop`, and their answers."""

    program: Program
    stop: threading.Event = field(default_factory=threading.Event)
    statuses: list[int] = field(default_factory=list)
    models: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> None:
        with httpx.Client(base_url=str(self.program.client.base_url), timeout=60) as client:
            while not self.stop.is_set():
                response = client.post("/detect", content=IMAGE, headers={"Content-Type": "image/jpeg"})
                self.statuses.append(response.status_code)
                if response.status_code == 200:
                    answer = response.json()
                    named = response.headers["X-Model"], response.headers["X-Model-Version"]
                    assert named == (answer["model"], answer["model_version"])
                    self.models.append(named)


def test_swaps_under_load_reject_no_request_and_free_their_memory(start: Start) -> None:
    program = start("--real", model="shapes", admin_keys="chief", max_batch="4", timeout_ms="60000")
    program.logged("ready", 120)
    requests, held, versions = Load(program), [], {"shapes": "", "blood-cells": ""}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        clients = [pool.submit(requests.run) for _ in range(CONNECTIONS)]
        try:
            for number in range(SWAPS):
                name = ("blood-cells", "shapes")[number % 2]
                response = program.client.post(f"/models/{name}/load", headers=ADMIN, timeout=120)
                assert response.status_code == 200, response.text
                answer = response.json()
                assert versions[name] in ("", answer["model_version"])
                versions[name] = answer["model_version"]
                versions[answer["previous"]["model"]] = answer["previous"]["model_version"]
                held.append(resident_without_the_old(program, number + 1))
        finally:
            requests.stop.set()
        for client in clients:
            client.result()
    assert set(requests.statuses) == {200}
    assert set(requests.models) == set(versions.items())
    mebibytes = [round(one / 2**20) for one in held]
    print(f"{len(requests.models)} answers, {mebibytes} MiB after each swap")
    assert held[-1] < KEPT * held[1], mebibytes
    program.terminate()
    assert program.ended() == 0


def test_a_hangup_reads_card_and_weights_again(start: Start, tmp_path: Path) -> None:
    card = tmp_path / "mine.toml"
    shutil.copy(ROOT / "models/zoo/shapes.safetensors", tmp_path)
    text = (ROOT / "models/zoo/shapes.toml").read_text()
    card.write_text(text.replace('name = "shapes"', 'name = "mine"'))
    program = start("--real", model=str(card), max_batch="1")
    program.logged("ready", 120)
    [before] = {program.client.get("/health").json()["model_version"] for _ in range(2)}

    card.write_text("not a card")
    os.kill(program.process.pid, signal.SIGHUP)
    program.logged("mine version .* still serves: .*not valid TOML", 60)
    assert program.client.get("/health").json()["model_version"] == before

    idle = httpx.Client(base_url=program.client.base_url, timeout=60)  # stays connected: it holds nothing
    assert idle.post("/detect", content=IMAGE, headers={"Content-Type": "image/jpeg"}).status_code == 200
    changed = re.sub(r"(?m)^score_threshold = .*$", "score_threshold = 0.125", card_text := text)
    assert changed != card_text
    card.write_text(changed.replace('name = "shapes"', 'name = "mine"'))
    os.kill(program.process.pid, signal.SIGHUP)
    program.logged("switched to mine", 60)
    program.logged(f"mine version {before} was released ", 60)
    after = program.client.get("/health").json()
    assert (after["model"], after["status"]) == ("mine", "ok")
    assert after["model_version"] != before
    loaded = [one for one in program.client.get("/models").json()["models"] if one["loaded"]]
    assert loaded[0]["score_threshold"] == 0.125
    idle.close()
    program.terminate()
    assert program.ended() == 0


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Program, int]]:
    """The program without torch, with a gRPC port; the keys are `guest` and, to load models, `chief`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = Program(grpc_port=str(port), api_keys="guest", admin_keys="chief")
    program.logged("ready")
    yield program, port
    program.terminate()
    assert program.ended() == 0
    program.close()


def test_tritonclient_over_http(server: tuple[Program, int]) -> None:
    program, _ = server
    guest, chief = {"X-API-Key": "guest"}, {"X-API-Key": "chief"}
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{program.port}") as client:
        client.load_model("fake", headers=chief)
        rows = {row["name"]: row["state"] for row in client.get_model_repository_index(headers=guest)}
        assert (rows["fake"], rows["shapes"]) == ("READY", "UNAVAILABLE")
        client.unload_model("shapes", headers=chief)
        with pytest.raises(InferenceServerException, match="only loaded model"):
            client.unload_model("fake", headers=chief)
        with pytest.raises(InferenceServerException, match="may not load models"):
            client.load_model("fake", headers=guest)
        with pytest.raises(InferenceServerException, match="config"):
            client.load_model("fake", headers=chief, config="{}")


def test_loads_over_grpc(server: tuple[Program, int]) -> None:
    _, port = server
    guest, chief = (("x-api-key", "guest"),), (("x-api-key", "chief"),)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="fake"), metadata=chief)
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest(), metadata=guest)
        rows = {row.name: (row.version, row.state) for row in index.models}
        assert (rows["fake"], rows["shapes"]) == (("1", "READY"), ("", "UNAVAILABLE"))
        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="shapes"), metadata=chief)
        with pytest.raises(grpc.RpcError, match="FAILED_PRECONDITION"):
            stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="fake"), metadata=chief)
        for name, key, status in (("fake", guest, "UNAUTHENTICATED"), ("../fake", chief, "NOT_FOUND")):
            with pytest.raises(grpc.RpcError, match=status):
                stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name), metadata=key)
