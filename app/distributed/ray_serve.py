"""The service on Ray Serve: `serve run app.distributed.ray_serve:build model=shapes replicas=2`.

Ray starts, balances, scales and restarts the replicas; each is a `Replica`, and Ray's proxy is before them.
A replica takes RCNN_MAX_QUEUE requests at a time (`max_ongoing_requests`): Ray sends the next one to another
replica. While all replicas are full, Ray holds as many requests again; beyond that the proxy answers 429.
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

RAY_ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK,
    # Requests go to replicas over gRPC and run on their one event loop, which the service never blocks …
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # … but only through the proxy: a replica's own port would bypass it.
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
}
HEALTH_SECONDS = 5.0
LOGGING = {"enable_access_log": False}  # app.transport.middleware.request_context logs each request
MAX_REPORTING = 10_000  # replicas that may wait at the ledger


def build(arguments: Arguments) -> "Application":
    """The application; raises ValueError if arguments or settings are wrong, before anything starts."""
    return build_of(RayReplica, arguments)


def build_of(kind: "type[RayReplica]", arguments: Arguments, *extra: Any) -> "Application":
    """The same with another class of replica, which gets `extra` arguments."""
    settings = arguments.settings()
    # Ray's processes on this machine start after this and inherit them; where Ray runs already, they must be
    # set before its start.
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray import serve

    ledger = serve.deployment(MetricsLedger, name="MetricsLedger", **_ledger_options()).bind()
    replica = serve.deployment(serve.ingress()(kind), name="Replica", **options(arguments, settings))
    return replica.bind(settings, ledger, *extra)


class RayReplica(Replica):
    """A replica that gets its name and its ledger from Ray."""

    def __init__(self, settings: Settings, ledger: Any, detector: Detector | None = None) -> None:
        from ray import serve

        configure_logging(settings.log_level, settings.log_format)
        name = serve.get_replica_context().replica_id.unique_id
        super().__init__(settings, name, RayLedger(ledger, name), detector)

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Ray Serve in the replica; the app's lifespan runs there too."""
        return self.application


class RayLedger:
    """The ledger, called over Ray."""

    def __init__(self, ledger: Any, name: str) -> None:
        self._ledger = ledger
        self._name = name

    async def report(self, page: bytes | None) -> bool:
        """As `MetricsLedger.report`, for this replica; raises OSError if the ledger cannot be reached."""
        return bool(await self._call(self._ledger.report, self._name, page))

    async def scrape(self) -> dict[str, bytes]:
        """As `MetricsLedger.scrape`; raises OSError if the ledger cannot be reached."""
        return dict(await self._call(self._ledger.scrape))

    async def _call(self, method: Any, *arguments: Any) -> Any:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            return await method.remote(*arguments)
        except (RayError, RayServeException) as error:
            raise OSError(f"the ledger of the metrics does not answer: {error}") from error


def options(arguments: Arguments, settings: Settings) -> dict[str, Any]:
    """How Ray Serve runs a replica."""
    gpus = arguments.gpus_of(settings)
    return {
        "ray_actor_options": {"num_cpus": settings.inference_threads, "num_gpus": gpus},
        "max_ongoing_requests": settings.max_queue,
        # Of each proxy. Ray counts requests on their way to a replica too, so this must hold a whole burst.
        "max_queued_requests": settings.max_queue * arguments.most,
        "backpressure_config": {"status_code": 429, "retry_after_s": LATER_SECONDS},
        "graceful_shutdown_timeout_s": settings.drain_seconds + LAST_ANSWERS_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.5,
        "health_check_period_s": HEALTH_SECONDS,
        "logging_config": LOGGING,
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
        "max_ongoing_requests": MAX_REPORTING,
        "logging_config": LOGGING,
        "graceful_shutdown_timeout_s": 0.1,
    }
