"""Metrics: the series of the contract and no others, on the registry that is handed in."""

import re

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.metrics import Metrics, metrics_markdown
from app.telemetry.request_log import RequestRecord, record
from tests.support.served import Served

CONTRACT = {
    "rcnn_requests_total": ("counter", ("route", "status")),
    "rcnn_request_duration_seconds": ("histogram", ("route",)),
    "rcnn_stage_duration_seconds": ("histogram", ("stage", "model")),
    "rcnn_queue_depth": ("gauge", ()),
    "rcnn_queue_bytes": ("gauge", ()),
    "rcnn_body_bytes": ("gauge", ("sender",)),
    "rcnn_abandoned_decodes": ("gauge", ()),
    "rcnn_memory_errors_total": ("counter", ()),
    "rcnn_predicted_wait_seconds": ("gauge", ()),
    "rcnn_in_flight": ("gauge", ()),
    "rcnn_batch_size": ("histogram", ("model",)),
    "rcnn_batch_duration_seconds": ("histogram", ("model",)),
    "rcnn_padding_ratio": ("histogram", ("model",)),
    "rcnn_rejected_total": ("counter", ("code",)),
    "rcnn_cancelled_total": ("counter", ()),
    "rcnn_deadline_exceeded_total": ("counter", ()),
    "rcnn_connections": ("gauge", ("state",)),
    "rcnn_connections_closed_total": ("counter", ("reason",)),
    "rcnn_streams": ("gauge", ("route",)),
    "rcnn_stream_frames_total": ("counter", ("route", "outcome")),
    "rcnn_batch_retries_total": ("counter", ("reason",)),
    "rcnn_detections_total": ("counter", ("model",)),
    "rcnn_detections_per_image": ("histogram", ("model",)),
    "rcnn_model_info": ("gauge", ("name", "architecture", "engine", "precision", "device", "version")),
    "rcnn_models_in_memory": ("gauge", ()),
    "rcnn_model_loading": ("gauge", ()),
    "rcnn_model_requests_total": ("counter", ("model",)),
    "rcnn_model_memory_bytes": ("gauge", ("model",)),
    "rcnn_model_swaps_total": ("counter", ("outcome",)),
    "rcnn_model_load_failed": ("gauge", ("model",)),
    "rcnn_model_ready": ("gauge", ()),
    "rcnn_device_memory_bytes": ("gauge", ("device", "kind")),
    "rcnn_cuda_graphs": ("gauge", ("device",)),
    "rcnn_key_requests_total": ("counter", ("key",)),
    "rcnn_captures_total": ("counter", ("outcome",)),
    "rcnn_capture_bytes": ("gauge", ()),
    "rcnn_camera_running": ("gauge", ("stream",)),
    "rcnn_camera_connections_total": ("counter", ("stream",)),
    "rcnn_camera_frames_total": ("counter", ("stream", "outcome")),
    "rcnn_camera_deliveries_total": ("counter", ("stream", "receiver", "outcome")),
    "rcnn_devices": ("gauge", ("state",)),
    "rcnn_priority_requests_total": ("counter", ("priority", "outcome")),
    "rcnn_priority_queue_seconds": ("histogram", ("priority",)),
}


def exposed(metrics: Metrics) -> str:
    body, content_type = metrics.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    return body.decode()


def test_the_series_are_those_of_the_contract() -> None:
    assert {one.name: (one.kind, one.labels) for one in Metrics().series} == CONTRACT


def test_the_exposition_announces_each_series_with_its_type_and_meaning() -> None:
    text = exposed(Metrics())
    types = dict(re.findall(r"^# TYPE (rcnn_\S+) (\w+)$", text, re.MULTILINE))
    assert types == {name: kind for name, (kind, _) in CONTRACT.items()}
    assert dict(re.findall(r"^# HELP (rcnn_\S+) (.+)$", text, re.MULTILINE)).keys() == CONTRACT.keys()


async def test_openmetrics_has_exemplars_and_both_formats_are_compressed(served: Served) -> None:
    metrics = served.app.state.service.metrics
    record(metrics, RequestRecord("POST", "/detect", 200, 0.2, trace_id="ab" * 16))
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    page = await served.client.get("/metrics", headers=accept)
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert page.headers["content-encoding"] == "gzip"
    families = {one.name: one for one in openmetrics.text_string_to_metric_families(page.text)}
    found = [sample.exemplar for sample in families["rcnn_request_duration_seconds"].samples]
    assert [one.labels for one in found if one] == [{"trace_id": "ab" * 16}]
    assert "rcnn_requests" in families
    plain = await served.client.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert "trace_id" not in plain.text
    document = await served.client.get("/openapi.json")
    assert document.headers["content-encoding"] == "gzip"
    assert document.json()["openapi"]


def test_values_come_out_as_they_went_in() -> None:
    metrics = Metrics()
    metrics.requests.labels("/detect", "200").inc()
    metrics.batch_size.labels("shapes").observe(4)
    metrics.model_info.labels("shapes", "small", "torch", "fp32", "cpu", "3b1f").set(1)
    lines = exposed(metrics).splitlines()
    assert 'rcnn_requests_total{route="/detect",status="200"} 1.0' in lines
    assert 'rcnn_batch_size_bucket{le="3.0",model="shapes"} 0.0' in lines
    assert 'rcnn_batch_size_bucket{le="4.0",model="shapes"} 1.0' in lines
    facts = 'architecture="small",device="cpu",engine="torch",name="shapes",precision="fp32",version="3b1f"'
    assert f"rcnn_model_info{{{facts}}} 1.0" in lines


def test_process_metrics_are_on_the_given_registry() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    assert metrics.registry is registry
    names = {family.name for family in text_string_to_metric_families(exposed(metrics))}
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections"} <= names


def test_two_services_in_a_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.cancelled.inc()
    assert "rcnn_cancelled_total 1.0" in exposed(one)
    assert "rcnn_cancelled_total 0.0" in exposed(other)
    assert not any(family.name.startswith("rcnn_") for family in REGISTRY.collect())


def test_no_created_series_is_exposed() -> None:
    metrics = Metrics()
    metrics.requests.labels("/detect", "200").inc()
    assert "_created" not in exposed(metrics)


@pytest.mark.parametrize("name", [name for name, (kind, _) in CONTRACT.items() if kind == "histogram"])
def test_buckets_rise(name: str) -> None:
    metrics = Metrics()
    metrics.request_duration.labels("/detect").observe(1)
    metrics.stage_duration.labels("dense", "shapes").observe(1)
    for series in (metrics.batch_size, metrics.batch_duration, metrics.padding_ratio):
        series.labels("shapes").observe(1)
    metrics.detections_per_image.labels("shapes").observe(1)
    metrics.priority_wait.labels("1").observe(1)
    edges = [
        float(edge) for edge in re.findall(rf'^{name}_bucket{{.*le="([^"]+)"', exposed(metrics), re.MULTILINE)
    ]
    assert edges == sorted(set(edges))
    assert edges[-1] == float("inf")


def test_the_table_has_a_line_for_each_series() -> None:
    lines = metrics_markdown().splitlines()[2:]
    assert [re.split(r"[`{]", line)[1] for line in lines] == [one.name for one in Metrics().series]
    assert "| `rcnn_requests_total{route,status}` | counter |" in metrics_markdown()
    assert all(line.count("|") == 4 for line in lines)
