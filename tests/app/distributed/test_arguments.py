"""The arguments of `serve run`, and how Ray runs the replicas."""

import os
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from app.distributed.arguments import LAST_ANSWERS_SECONDS, Arguments
from app.distributed.ray_serve import build, options
from app.settings.settings import Settings
from tests.support.served import ROOT


def arguments(**words: Any) -> Arguments:
    return Arguments.model_validate(words)  # as Ray does with the words of its command line


def test_words_of_the_command_line_become_replicas_and_settings() -> None:
    given = arguments(model="shapes", replicas="2", max_queue="7", drain_seconds="3")
    settings = given.settings()
    assert (settings.model, settings.max_queue, given.most) == ("shapes", 7, 2)
    chosen = options(given, settings)
    assert chosen["num_replicas"] == 2
    assert chosen["max_ongoing_requests"] == 7  # what a replica accepts
    assert chosen["max_queued_requests"] == 14  # what both hold together
    assert chosen["graceful_shutdown_timeout_s"] == 3 + LAST_ANSWERS_SECONDS


def test_replicas_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert arguments(replicas=cores).settings().inference_threads == 1
    assert arguments(replicas=10 * cores).settings().decode_threads == 1
    assert arguments().settings().inference_threads == cores
    own = arguments(replicas=cores, threads=3).settings()
    assert options(arguments(), own)["ray_actor_options"]["num_cpus"] == 3


def test_replicas_scale_on_what_is_inside_them() -> None:
    given = arguments(replicas=1, max_replicas=3, max_batch=4, downscale_seconds=60)
    scale = options(given, given.settings())["autoscaling_config"]
    assert (scale["min_replicas"], scale["max_replicas"], scale["target_ongoing_requests"]) == (1, 3, 4)
    assert scale["downscale_delay_s"] == 60


def test_a_gpu_each_where_one_is_asked_for() -> None:
    assert arguments(device="cpu").gpus_of(Settings(device="cpu")) == 0
    assert arguments(device="cuda").gpus_of(Settings(device="cuda")) == 1
    assert arguments(gpus=0.5).gpus_of(Settings(device="cpu")) == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"max_queu": "1"}, "did you mean RCNN_MAX_QUEUE"),
        ({"replicas": "0"}, "greater than or equal to 1"),
        ({"replicas": "3", "max_replicas": "2"}, "max_replicas=2 is less than replicas=3"),
        ({"timeout_ms": "5"}, "set RCNN_TIMEOUT_MS in the environment of every Ray node"),
        ({"grpc_port": "9000"}, "replicas on one machine would share the port"),
        ({"device": "cuda:1"}, "use device=cuda"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(words: dict[str, str], message: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=message):
        arguments(**words).settings()


def test_the_example_is_valid() -> None:
    config = yaml.safe_load((ROOT / "docker/ray/serve.yaml").read_text())
    [application] = config["applications"]
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"
    given = arguments(**application["args"])
    assert given.settings().drain_seconds == 30
    assert config["http_options"]["host"] == "127.0.0.1"  # as everywhere, open to this machine alone
