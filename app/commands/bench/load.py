"""`rcnn bench load`: sends an image to a service for some seconds, and prints how fast it is answered.

Each connection takes the next due time, waits for it, sends, and awaits the answer. With --rate the due times
are fixed, and latency counts from them: a service that stalls also delays what is due meanwhile. Without it a
request is due when its connection is free.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands import USAGE, CommandFailed
from app.commands.bench.arguments import BenchLoadArguments
from app.commands.bench.tally import LoadPlan, LoadResult, Tally, even_times, summarize
from app.commands.shared.console import open_console, plain_table
from app.commands.shared.service_client import check_reachable, open_service

if TYPE_CHECKING:
    from rcnn_client import AsyncClient, Detections

CONNECTIONS = 4  # of a closed loop, if no number is given
MAX_CONNECTIONS = 256  # of an open loop
TIMEOUT = 60.0  # seconds for an answer
GRACE = 1.0  # seconds after the end of an open loop in which an overdue request is still sent
NO_ANSWER, NOT_SENT, NO_DETECTIONS = 0, -1, -2  # in place of a status
ERRORS = {str(NO_ANSWER): "no answer", str(NOT_SENT): "not sent", str(NO_DETECTIONS): "no detections"}
SAMPLE = Path(__file__).parents[2] / "samples" / "shapes-1.jpg"


@dataclass(frozen=True)
class Clock:
    """Seconds since the load began."""

    started: float

    def now(self) -> float:
        """The seconds so far."""
        return time.perf_counter() - self.started


def run(arguments: BenchLoadArguments) -> int:
    """Send the load and print its result; the exit code."""
    plan = _plan(arguments)
    image = _read(arguments.image or SAMPLE)
    with open_service(arguments.url, arguments.api_key, "URL") as client:
        check_reachable(client)
        first = client.detect(image, model=arguments.model)  # refused here, all others would be too
    if not arguments.json:
        print(_title(first, plan), flush=True)
    result = summarize(asyncio.run(_send_all(arguments, image, plan)), plan)
    if arguments.json:
        print(_json(result, plan, first))
    else:
        _print_table(result)
    return 0


def _plan(arguments: BenchLoadArguments) -> LoadPlan:
    if arguments.rate is not None and arguments.connections is not None:
        raise CommandFailed(
            "--rate sends requests when they are due, --connections when an answer is there; choose one",
            USAGE,
        )
    connections = MAX_CONNECTIONS if arguments.rate else arguments.connections or CONNECTIONS
    return LoadPlan(connections, arguments.seconds, arguments.rate or 0.0, TIMEOUT)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandFailed(f"--image {file}: {error}") from error


async def _send_all(arguments: BenchLoadArguments, image: bytes, plan: LoadPlan) -> Tally:
    from rcnn_client import AsyncClient

    seconds = plan.timeout
    async with AsyncClient(arguments.url, arguments.api_key, seconds, retries=0, deadline=seconds) as client:
        clock, tally = Clock(time.perf_counter()), Tally()
        due_times = _due_times(plan, clock)

        async def send() -> int:
            return await _status(client, image, arguments.model)

        async with asyncio.TaskGroup() as connections:
            for _ in range(plan.connections):
                connections.create_task(_repeat(send, due_times, plan, clock, tally))
    return tally


def _due_times(plan: LoadPlan, clock: Clock) -> Iterator[float]:
    """When the next request is due, in seconds from the start."""
    if plan.rate:
        yield from even_times(plan.rate, plan.seconds)
    else:
        while (moment := clock.now()) < plan.seconds:
            yield moment


async def _repeat(
    send: Callable[[], Awaitable[int]], due_times: Iterator[float], plan: LoadPlan, clock: Clock, tally: Tally
) -> None:
    """What one connection does: the due times are shared, each is taken once."""
    for due in due_times:
        await asyncio.sleep(due - clock.now())
        late = clock.now() > plan.seconds + GRACE
        status = NOT_SENT if late else await send()
        now = clock.now()
        tally.add(status, True, now - due, now)


async def _status(client: "AsyncClient", image: bytes, model: str | None) -> int:
    from rcnn_client import ClientError, Refused, Unreachable

    try:
        await client.detect(image, model=model)
    except Refused as error:
        return error.status
    except Unreachable:
        return NO_ANSWER
    except ClientError:
        return NO_DETECTIONS
    return 200


def _title(first: "Detections", plan: LoadPlan) -> str:
    load = f"{plan.rate:g} requests a second" if plan.rate else f"{plan.connections} connections"
    return f"{first.model}, {first.width}x{first.height} px, {load} for {plan.seconds:g} s"


def _print_table(result: LoadResult) -> None:
    columns = ("images/s", "p50 ms", "p95 ms", "p99 ms", "slowest ms", "answered", "errors")
    table = plain_table(numbers=columns)
    times = (result.p50_ms, result.p95_ms, result.p99_ms, result.slowest_ms)
    cells = ("-" if math.isnan(value) else f"{value:.1f}" for value in times)
    errors = ", ".join(f"{ERRORS.get(status, status)}: {count}" for status, count in result.errors.items())
    table.add_row(f"{result.images_per_second:.1f}", *cells, str(result.answered), errors or "0")
    console = open_console()
    console.print(table)
    if str(NOT_SENT) in result.errors:
        text = (
            f"not sent: all {MAX_CONNECTIONS} connections waited for an answer until a second after the end"
        )
        console.print(text, highlight=False, style="dim")


def _json(result: LoadResult, plan: LoadPlan, first: "Detections") -> str:
    """Times are null without an answer."""
    load = {"rate": plan.rate} if plan.rate else {"connections": plan.connections}
    image = {"width": first.width, "height": first.height}
    numbers: dict[str, Any] = {name: _finite(value) for name, value in asdict(result).items()}
    del numbers["without_retry_after"]
    numbers["errors"] = {ERRORS.get(status, status): count for status, count in result.errors.items()}
    return json.dumps({"model": first.model, "image": image, **load, "seconds": plan.seconds, **numbers})


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
