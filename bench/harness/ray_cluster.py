"""A real Ray cluster on this machine with replicas of the service."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.distributed.arguments import Arguments
from bench.harness.processes import ROOT, free_port

OBJECT_STORE_BYTES = 200_000_000
REPLICA = "SERVE_REPLICA::default#Replica#"  # as Ray's actors are named
PROCESS = "ray::ServeReplica:default:Replica"  # as their processes are named

Build = Callable[[Arguments], Any]


@contextmanager
def cluster(cpus: int = 4, build: Build | None = None, **arguments: Any) -> Iterator[str]:
    """Ray with the service on it: its URL. Ended afterwards, with all files it wrote."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    import ray
    from ray import serve

    port, folder = free_port(), tempfile.mkdtemp(prefix="ray-")
    deploy(
        build, **arguments, start=False
    )  # before Ray starts, as `serve run` does: it sets the proxy's variables
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
        deploy(build, **arguments)
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def deploy(build: Build | None = None, start: bool = True, **arguments: Any) -> None:
    """Run the application with these arguments, or change the running one to them."""
    from app.distributed import ray_serve

    application = (build or ray_serve.build)(Arguments(**arguments))
    if start:
        from ray import serve

        serve.run(application)


def port_of(url: str) -> int:
    """The port of a cluster's URL."""
    return int(url.rpartition(":")[2])


def replicas() -> list[str]:
    """The names of the replicas' living actors."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [one["name"] for one in named if one["name"].startswith(REPLICA)]


def processes() -> list[Any]:
    """The replicas' processes, which are descendants of this process."""
    psutil: Any = importlib.import_module("psutil")  # it is in Ray's venv alone
    descendants = psutil.Process().children(recursive=True)
    return [one for one in descendants if "".join(one.cmdline()[:1]).startswith(PROCESS)]


def kill_one() -> None:
    """End the process of a replica by SIGKILL."""
    processes()[0].kill()


def pin() -> None:
    """Give each replica a core of its own, for all threads it has and starts later."""
    cores = sorted(os.sched_getaffinity(0))
    for index, process in enumerate(processes()):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {cores[index % len(cores)]})
