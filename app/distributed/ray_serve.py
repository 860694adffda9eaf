"""The service on Ray Serve: `serve run app.distributed.ray_serve:build model=shapes replicas=2`.

Ray starts, balances, scales and restarts the replicas; each is a `Replica`, and in front of them is the door.
A replica takes RCNN_MAX_QUEUE requests at a time (`max_ongoing_requests`): Ray offers the next one to another
replica, holds as many as all replicas do while all are full, and beyond that the door says 429.
"""

import os
from typing import TYPE_CHECKING, Any

from app.distributed.arguments import LAST_ANSWERS_SECONDS, Arguments
from app.distributed.metrics_ledger import MetricsLedger
from app.distributed.proxy import CALLBACK, LATER_SECONDS
from app.distributed.replica import Replica
from app.serving.interfaces import Detector
from app.settings.settings import Settings
from app.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from ray.serve import Application

FOR_RAYS_PROCESSES = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK,
    # Requests go to replicas over gRPC and run on their one event loop, which nothing of ours blocks …
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # … but through the proxy alone: a replica's own port would lie behind the door.
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
}
HEALTH_SECONDS = 5.0
OUR_OWN_LINES = {"enable_access_log": False}  # a request has its line from app.transport.middleware already
REPORTERS = 10_000  # replicas that may wait at the ledger


def build(arguments: Arguments) -> "Application":
    """The application: raises ValueError where arguments or settings are wrong, before anything starts."""
    return build_of(RayReplica, arguments)


def build_of(kind: "type[RayReplica]", arguments: Arguments, *given: Any) -> "Application":
    """The same of another kind of replica, which is `given` more."""
    settings = arguments.settings()
    # Ray's processes on this machine inherit them, for they are started after this; where Ray runs already,
    # whoever started it has set them.
    for name, value in FOR_RAYS_PROCESSES.items():
        os.environ.setdefault(name, value)
    from ray import serve

    ledger = serve.deployment(MetricsLedger, name="MetricsLedger", **_ledger_options()).bind()
    replica = serve.deployment(serve.ingress()(kind), name="Replica", **options(arguments, settings))
    return replica.bind(settings, ledger, *given)


class RayReplica(Replica):
    """A replica with what only Ray can tell it: its name, and the way to the ledger."""

    def __init__(self, settings: Settings, ledger: Any, detector: Detector | None = None) -> None:
        from ray import serve

        configure_logging(settings.log_level, settings.log_format)
        name = serve.get_replica_context().replica_id.unique_id
        super().__init__(settings, name, RayLedger(ledger, name), detector)

    def __serve_build_asgi_app__(self) -> Any:
        """What Ray Serve calls for the app, in the replica; its lifespan runs there too."""
        return self.application


class RayLedger:
    """The ledger, called over Ray."""

    def __init__(self, ledger: Any, name: str) -> None:
        self._ledger = ledger
        self._name = name

    async def turn(self, page: bytes | None) -> bool:
        """As `Ledger.turn`, for this replica; raises OSError where there is no ledger now."""
        return bool(await self._called(self._ledger.turn, self._name, page))

    async def scrape(self) -> dict[str, bytes]:
        """As `Ledger.scrape`; raises OSError where there is no ledger now."""
        return dict(await self._called(self._ledger.scrape))

    async def _called(self, method: Any, *given: Any) -> Any:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            return await method.remote(*given)
        except (RayError, RayServeException) as error:
            raise OSError(f"the ledger of the metrics does not answer: {error}") from error


def options(arguments: Arguments, settings: Settings) -> dict[str, Any]:
    """How Ray Serve runs a replica."""
    gpus = arguments.gpus_of(settings)
    return {
        "ray_actor_options": {"num_cpus": settings.inference_threads, "num_gpus": gpus},
        "max_ongoing_requests": settings.max_queue,
        # Of each proxy; Ray counts who is just being sent on as well, so a burst that fits must fit here too.
        "max_queued_requests": settings.max_queue * arguments.most,
        "backpressure_config": {"status_code": 429, "retry_after_s": LATER_SECONDS},
        "graceful_shutdown_timeout_s": settings.drain_seconds + LAST_ANSWERS_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.5,
        "health_check_period_s": HEALTH_SECONDS,
        "logging_config": OUR_OWN_LINES,
        **_scale(arguments, settings),
    }


def _scale(arguments: Arguments, settings: Settings) -> dict[str, Any]:
    if arguments.most == arguments.replicas:
        return {"num_replicas": arguments.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": arguments.replicas,
            "max_replicas": arguments.most,
            "target_ongoing_requests": arguments.ongoing or settings.max_batch,
            "upscale_delay_s": arguments.upscale_seconds,
            "downscale_delay_s": arguments.downscale_seconds,
            "look_back_period_s": arguments.window_seconds,
        }
    }


def _ledger_options() -> dict[str, Any]:
    return {
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": REPORTERS,
        "logging_config": OUR_OWN_LINES,
        "graceful_shutdown_timeout_s": 0.1,
    }
