"""A real Ray cluster on this machine with replicas of the service, and its callers."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.distributed.arguments import Arguments

ROOT = Path(__file__).parents[2]


OBJECT_STORE_BYTES = 200_000_000


REPLICA = "SERVE_REPLICA::default#Replica#"


PROCESS = "ray::ServeReplica:default:Replica"


Build = Callable[[Arguments], Any]


@dataclass(frozen=True)
class Answer:
    """What a client got: `body` is empty where there was no answer."""

    sent: int  # which image
    status: int
    retry_after: str
    replica: str
    identity: str
    body: dict[str, Any]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def cluster(cpus: int = 4, build: Build | None = None, **given: Any) -> Iterator[str]:
    """Ray with the service on it; the address to ask. Ended, with all that it wrote, at the end."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    import ray
    from ray import serve

    port, folder = free_port(), tempfile.mkdtemp(prefix="ray-")
    deploy(build, **given, start=False)  # before Ray starts, as `serve run` does: it says where the door is
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=folder,
            namespace="serve",
            log_to_driver=False,
        )
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        deploy(build, **given)
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def deploy(build: Build | None = None, start: bool = True, **given: Any) -> None:
    """Run the application with these arguments; what runs is changed to them."""
    from app.distributed import ray_serve

    application = (build or ray_serve.build)(Arguments(**given))
    if start:
        from ray import serve

        serve.run(application)


def replicas() -> list[str]:
    """The names of the replicas' actors that live."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [one["name"] for one in named if one["name"].startswith(REPLICA)]


def processes() -> list[Any]:
    """The replicas' processes; Ray is a child of this process, and so are its own."""
    import psutil  # comes with Ray's venv

    ours = psutil.Process().children(recursive=True)
    return [one for one in ours if "".join(one.cmdline()[:1]).startswith(PROCESS)]


def kill_one() -> None:
    """End the process of a replica by SIGKILL."""
    processes()[0].kill()


def pin() -> None:
    """Give each replica a core of its own, for all its threads; what they start later stays there too."""
    cores = sorted(os.sched_getaffinity(0))
    for index, process in enumerate(processes()):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {cores[index % len(cores)]})


class Crowd:
    """Clients that ask again as soon as they have an answer, until `stop`."""

    def __init__(self, url: str, images: Sequence[bytes], clients: int) -> None:
        self.answers: list[Answer] = []
        self._url, self._images, self._clients = url, images, clients
        self._asked = 0
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Crowd":
        self._client = httpx.AsyncClient(
            base_url=self._url, timeout=60, limits=httpx.Limits(max_connections=None)
        )
        self._tasks = [asyncio.create_task(self._again_and_again()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stopped.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()

    async def _again_and_again(self) -> None:
        while not self._stopped.is_set():
            number, self._asked = self._asked, self._asked + 1
            self.answers.append(await ask(self._client, number, self._images))


async def ask(client: httpx.AsyncClient, number: int, images: Sequence[bytes]) -> Answer:
    """One request, with an id of its own; 0 is the status where there was no answer at all."""
    headers = {"Content-Type": "image/jpeg", "X-Request-ID": f"n{number}"}
    response = httpx.Response(0)
    with suppress(httpx.TransportError):
        response = await client.post("/detect", content=images[number % len(images)], headers=headers)
    body: dict[str, Any] = {}
    with suppress(ValueError):
        body = response.json() if response.status_code else {}
    given = response.headers
    return Answer(
        number % len(images),
        response.status_code,
        given.get("retry-after", ""),
        given.get("x-replica", ""),
        given.get("x-request-id", ""),
        body,
    )
