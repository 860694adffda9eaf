"""Traces: what a request's spans say, how batches are linked to requests; nothing where they are off."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from app.main import create_app
from app.protocols.openinference.grpc.proto.grpc_service_pb2 import ServerLiveRequest
from app.settings.settings import Settings
from app.telemetry import tracing
from app.telemetry.logs import JsonLines, RequestIds
from app.telemetry.metrics import STAGES
from tests.app.protocols.openinference.test_grpc import calls
from tests.app.protocols.openinference.test_grpc import request as call_request
from tests.support.asgi_request import AsgiRequest
from tests.support.data.networks import random_detector
from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG
from tests.support.served import Serve, Served, eventually

CALL = "inference.GRPCInferenceService/ModelInfer"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = f"00-{TRACE}-{PARENT}-01"
HEADERS = {"Content-Type": "image/png"}
SPANS = ("decode", "queue", "batch", "dense", "postprocess")  # inside a request's, with a FakeDetector


class Collected:
    """The spans that a provider has sent to memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Collected:
    """OpenTelemetry is set up in this process, as a user's own program may do; spans stay in memory."""
    collected = Collected()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", collected.provider)
    return collected


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def detect(
    served: Served, query: str = "", image: bytes = PNG, traceparent: str | None = None
) -> httpx.Response:
    headers = HEADERS | ({"traceparent": traceparent} if traceparent else {})
    return await served.client.post(f"/detect{query}", content=image, headers=headers)


# --- one trace


async def test_a_trace_shows_where_a_requests_time_went(collected: Collected) -> None:
    app = create_app(Settings(decode_threads=1), random_detector())
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, timeout=60) as client:
        await eventually(lambda: app.state.service.state == "ok", "the service is ready")
        sent = {**HEADERS, "traceparent": SENT, "X-Request-ID": "mine"}
        response = await client.post("http://test/detect", content=picture(), headers=sent)
        assert response.status_code == 200

    request, batch = collected.one("POST /detect"), collected.one("batch")
    assert {span.name for span in collected.spans} == {"POST /detect", "batch", *STAGES}
    assert {format_trace_id(ids(span)[0]) for span in collected.spans} == {TRACE}
    assert request.parent is not None
    assert (format_span_id(request.parent.span_id), request.kind) == (PARENT, SpanKind.SERVER)
    assert response.headers["traceresponse"] == f"00-{TRACE}-{format_span_id(ids(request)[1])}-01"
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/detect",
        "http.response.status_code": 200,
        "rcnn.request_id": "mine",
        "rcnn.model": "random",
    }
    for name in ("decode", "queue", "batch"):
        assert parent(collected.one(name)) == ids(request)[1]
    for name in ("dense", "proposals", "roi_align", "head", "postprocess"):
        assert parent(collected.one(name)) == ids(batch)[1]
    assert all(span.status.status_code is StatusCode.UNSET for span in collected.spans)


async def test_spans_lie_in_their_order_and_inside_one_another(serve: Serve, collected: Collected) -> None:
    async with serve(FakeDetector(seconds=0.02)) as served:
        await detect(served)
    named = {span.name: (span.start_time or 0, span.end_time or 0) for span in collected.spans}
    request, decode, queue, dense = (named[name] for name in ("POST /detect", "decode", "queue", "dense"))
    assert request[0] <= decode[0] <= decode[1] <= queue[0] <= queue[1] <= request[1]
    assert queue[1] <= named["batch"][1] <= request[1]
    assert dense[1] - dense[0] == 20_000_000  # ns: as the stage's metric has it
    assert queue[1] < dense[1]  # the wait ends where the batch begins, not with the response


async def test_a_batch_is_linked_to_every_request_in_it(served: Served, collected: Collected) -> None:
    detector = served.detector
    detector.free.clear()
    requests = [asyncio.create_task(detect(served))]
    await eventually(lambda: len(detector.batches) == 1, "the first is on the device")
    for waiting in (1, 2):
        requests.append(asyncio.create_task(detect(served)))
        await eventually(lambda n=waiting: served.app.state.service.queue_depth == n, "it waits")  # type: ignore[misc]  # a default of a lambda
    detector.let_go()
    responses = [await request for request in requests]

    alone, together = sorted(collected.named("batch"), key=lambda span: len(span.links))
    assert [attributes(batch)["rcnn.batch.size"] for batch in (alone, together)] == [1, 2]
    expected = [tuple(response.headers["traceresponse"].split("-")[1:3]) for response in responses]
    assert len({trace for trace, _ in expected}) == 3, "each has a trace of its own"
    found = [(format_trace_id(trace), format_span_id(span)) for trace, span in links(alone) + links(together)]
    assert found == expected
    assert parent(together) == links(together)[0][1], "the first one's trace is complete"
    waited = [links(span) for span in collected.named("queue")]
    assert sorted(waited) == sorted([[ids(alone)], [ids(together)], [ids(together)]])


async def test_an_image_in_tiles_is_linked_once_a_batch(served: Served, collected: Collected) -> None:
    assert (await detect(served, "?tile=128", picture(512, 384))).status_code == 200
    request = collected.one("POST /detect")
    assert len(collected.named("queue")) > 4
    assert {tuple(links(batch)) for batch in collected.named("batch")} == {(ids(request),)}


async def test_each_image_of_a_request_has_its_spans(served: Served, collected: Collected) -> None:
    files = [("image", ("a.png", PNG)), ("image", ("b.png", PNG))]
    await served.client.post("/detect/batch", files=files)
    request = collected.one("POST /detect/batch")
    for name in ("decode", "queue"):
        assert [parent(span) for span in collected.named(name)] == [ids(request)[1]] * 2


# --- what goes wrong


def failure(span: ReadableSpan) -> tuple[StatusCode, Any]:
    return span.status.status_code, attributes(span).get("error.type")


async def test_a_clients_fault_is_no_error_of_the_request(served: Served, collected: Collected) -> None:
    await detect(served, image=picture()[:60])
    assert failure(collected.one("POST /detect")) == (StatusCode.UNSET, None)
    assert failure(collected.one("decode")) == (StatusCode.ERROR, "InvalidImage")


async def test_a_batch_that_fails_is_an_error(served: Served, collected: Collected) -> None:
    served.detector.poison = lambda _: OSError("the device is gone")
    assert (await detect(served)).status_code == 500
    assert failure(collected.one("batch")) == failure(collected.one("queue")) == (StatusCode.ERROR, "OSError")
    request = collected.one("POST /detect")
    assert (failure(request)[0], request.status.description) == (StatusCode.ERROR, "answered with 500")


async def test_a_deadline_that_passes_is_an_error(served: Served, collected: Collected) -> None:
    served.detector.free.clear()
    assert (await detect(served, "?timeout_ms=1000")).status_code == 504
    assert failure(collected.one("queue")) == (StatusCode.ERROR, "Expired")
    assert collected.one("POST /detect").status.description == "answered with 504"


async def test_a_client_that_leaves_is_an_error(served: Served, collected: Collected) -> None:
    served.detector.free.clear()
    request = AsgiRequest(served.app, "/detect", HEADERS)
    request.send(PNG)
    await eventually(lambda: len(served.detector.batches) == 1, "it is on the device")
    request.leave()
    await request.ended()
    span = collected.one("POST /detect")
    assert attributes(span)["http.response.status_code"] == 499
    assert span.status.description == "the client left before its answer"
    assert failure(collected.one("queue")) == (StatusCode.ERROR, "CancelledError")


# --- context in and out


@pytest.mark.parametrize("sent", [None, "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
async def test_without_a_valid_parent_a_trace_begins(
    served: Served, collected: Collected, sent: str | None
) -> None:
    response = await detect(served, traceparent=sent)
    request = collected.one("POST /detect")
    assert request.parent is None
    assert response.headers["traceresponse"].split("-")[1] == format_trace_id(ids(request)[0]) != TRACE


async def test_a_client_that_does_not_sample_is_not_sampled(served: Served, collected: Collected) -> None:
    response = await detect(served, traceparent=f"00-{TRACE}-{PARENT}-00")
    assert response.status_code == 200
    assert collected.spans == []
    assert response.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert response.headers["traceresponse"].endswith("-00")


async def test_refusals_are_traced_and_probes_are_not(served: Served, collected: Collected) -> None:
    for path in ("/health", "/health/ready", "/metrics"):
        assert "traceresponse" not in (await served.client.get(path)).headers
    assert collected.spans == []
    response = await served.client.get("/nowhere", headers={"traceparent": SENT})
    assert response.headers["traceresponse"].split("-")[1] == TRACE
    assert collected.one("GET unmatched").attributes


async def test_lines_of_the_log_have_the_trace(
    served: Served, collected: Collected, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caplog.handler, "filters", [RequestIds()])  # one handler serves all tests
    monkeypatch.setattr(caplog.handler, "formatter", JsonLines())
    with caplog.at_level(logging.INFO):
        await detect(served, traceparent=SENT)
        await served.client.get("/health", headers={"traceparent": SENT})
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    (line,) = [line for line in lines if line.get("route") == "/detect"]
    assert line["trace_id"] == TRACE
    assert attributes(collected.one("POST /detect"))["rcnn.request_id"] == line["request_id"]
    assert [other for other in lines if "trace_id" in other] == [line]


async def test_calls_over_grpc_are_traced(served: Served, collected: Collected) -> None:
    async with calls(served) as stub:
        call = stub.ModelInfer(call_request(PNG), metadata=(("traceparent", SENT),))
        await call
        trailing = dict(list(await call.trailing_metadata()))
        await stub.ServerLive(ServerLiveRequest())
        await eventually(lambda: bool(collected.named(CALL)), "the call's span has ended")
    method = collected.one(CALL)
    assert trailing["traceresponse"] == f"00-{TRACE}-{format_span_id(ids(method)[1])}-01"
    assert links(collected.one("batch")) == [ids(method)]
    assert {span.name for span in collected.spans} == {method.name, *SPANS}


# --- on and off


async def test_without_a_collector_nothing_is_traced(served: Served) -> None:
    response = await detect(served, traceparent=SENT)
    assert response.status_code == 200
    assert "traceresponse" not in response.headers


async def test_the_programs_own_set_up_goes_before_the_settings(serve: Serve, collected: Collected) -> None:
    async with serve(otlp_endpoint="http://127.0.0.1:9") as served:
        await detect(served)
    assert collected.one("POST /detect")


def test_nothing_is_recorded_where_the_sampler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with tracing.as_current(tracing.begin("GET", {})), tracing.span("decode") as span:
        assert span is None
        assert (request := tracing.current()) is not None
        assert not request.is_recording()
