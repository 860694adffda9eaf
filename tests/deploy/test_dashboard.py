"""The Grafana dashboard: its files fit together, and each of its queries finds data in a real Prometheus."""

import io
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image as pillow

from tests.deploy.test_deploy import exported_series
from tests.support import prometheus
from tests.support.process import Program
from tests.support.prometheus import Prometheus
from tests.support.served import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "docker/grafana/dashboards/rcnn-serve.json").read_text())
JOB = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())["scrape_configs"][0]["job_name"]
SUBJECTS = (
    *("Requests by status", "Time by stage", "Requests, heat map", "Stage $stage, heat map"),
    *("Queue", "Batch size", "Rejected, by code", "Cancelled", "Deadlines missed", "Padding"),
    *("Device memory", "Streams", "Priorities", "Devices"),
)
WITHOUT_DATA = {
    "Device memory": "there is none on a CPU",
    "Batches run again": "no batch of a sound model fails",
}
"""Panels for which a sound service on a CPU has no data; the names in their queries are checked too."""
SECONDS = 90  # that data may take to come: a few scrapes, on a machine that has other things to do
WINDOW = "10s"  # what $__rate_interval stands for here


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def variables() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in DASHBOARD["templating"]["list"]}


def queries() -> list[tuple[str, str]]:
    """(panel's title, query) of every query of every panel."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def filled(expression: str) -> str:
    """A query as Grafana sends it with every variable at All, but a rate's window."""
    expression = expression.replace("$__rate_interval", WINDOW)
    for name, one in variables().items():
        expression = expression.replace(f"${name}", one["allValue"].replace("\\", "\\\\"))
    assert "$" not in expression
    return expression


# --- the files


def test_every_subject_has_its_panel() -> None:
    titles = [panel["title"] for panel in panels()]
    assert set(SUBJECTS) <= set(titles)
    assert len(titles) == len(set(titles))
    kinds = {panel["title"]: panel["type"] for panel in panels()}
    assert kinds["Requests, heat map"] == kinds["Stage $stage, heat map"] == "heatmap"
    stages = next(panel for panel in panels() if panel["title"] == "Time by stage")
    assert stages["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"


def test_panels_do_not_lie_on_one_another() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("title", "expression"), queries(), ids=lambda text: text[:40])
def test_a_query_names_series_that_exist(title: str, expression: str) -> None:
    named = set(re.findall(r"\b(?:rcnn|process|python)_\w+", re.sub(r"\{[^}]*\}", "", expression)))
    assert named, title
    assert named <= exported_series(), title
    assert 'instance=~"$instance"' in expression


def test_variables_ask_for_series_that_exist() -> None:
    for one in variables().values():
        found = re.match(r"label_values\((\w+)", one["query"]["query"])
        assert found, one["query"]
        assert found[1] in exported_series()


def test_grafana_finds_its_data_and_its_dashboards() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", grafana["image"])
    mounts = dict(reversed(volume.split(":")[:2]) for volume in grafana["volumes"])
    assert all((ROOT / source).is_dir() for source in mounts.values())
    folder = ROOT / mounts["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    used = {panel["datasource"]["uid"] for panel in panels()}
    assert used | {one["datasource"]["uid"] for one in variables().values()} == {source["uid"]}
    (provider,) = yaml.safe_load((folder / "dashboards/files.yml").read_text())["providers"]
    assert provider["options"]["path"] in mounts
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / home.replace(provider["options"]["path"], mounts[provider["options"]["path"]])).is_file()


def test_grafana_shows_and_takes_no_password() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    environment = grafana["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert not [name for name in environment if "PASSWORD" in name or "SECRET" in name]


# --- the queries, on data


class RealProgram(Program):
    """`rcnn serve` itself, with a network."""

    command = ("-m", "app.cli", "serve")


@pytest.fixture(scope="module")
def service() -> Iterator[httpx.Client]:
    """A client of `rcnn serve` with the model `shapes`, which is ready."""
    program = RealProgram(model="shapes", engine="torch", inference_threads="1")
    program.logged("ready", SECONDS)
    yield program.client
    program.terminate()
    assert program.ended() == 0
    program.close()


@pytest.fixture(scope="module")
def scraped(service: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes it."""
    target = f"{service.base_url.host}:{service.base_url.port}"
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), target, JOB)
    yield server
    server.close()


def make_traffic(client: httpx.Client) -> None:
    """One of each: an answer, an animation, an image that is none, a deadline that cannot be met."""
    sample = (ROOT / "samples/shapes-1.jpg").read_bytes()
    headers = {"Content-Type": "application/octet-stream"}
    answers = [
        client.post("/detect", content=sample, headers=headers, params={"size": 128}),
        client.post("/detect/stream", content=animation(), headers=headers, params={"size": 64}),
        client.post("/detect", content=b"no image", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400]


def animation() -> bytes:
    frames = [pillow.new("RGB", (64, 64), (shade, 0, 0)) for shade in (0, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def wait_for_data(client: httpx.Client, missing: dict[str, Callable[[], bool]]) -> None:
    """Make traffic and ask, until everything has data: between two scrapes, rates need some to go on."""
    until = time.monotonic() + SECONDS
    while missing:
        assert time.monotonic() < until, f"no data after {SECONDS} s: {sorted(missing)}"
        make_traffic(client)
        missing = {name: found for name, found in missing.items() if not found()}


@prometheus.needed
def test_every_query_returns_data(service: httpx.Client, scraped: Prometheus) -> None:
    def asked(expression: str) -> Callable[[], bool]:
        return lambda: any(math.isfinite(value) for value in scraped.ask(filled(expression)))

    wait_for_data(
        service,
        {expression: asked(expression) for title, expression in queries() if title not in WITHOUT_DATA},
    )
    for title, expression in queries():
        if title in WITHOUT_DATA:
            assert scraped.ask(filled(expression)) == [], f"{title} has data: take it off the list"


@prometheus.needed
def test_every_variable_has_values(service: httpx.Client, scraped: Prometheus) -> None:
    def asked(query: str) -> Callable[[], bool]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found, query
        return lambda: bool(scraped.label_values(found[2], filled(found[1])))

    wait_for_data(service, {name: asked(one["query"]["query"]) for name, one in variables().items()})
    stages = scraped.label_values("stage", "rcnn_stage_duration_seconds_count")
    assert variables()["stage"]["current"]["value"] == ["dense"]
    assert "dense" in stages


@prometheus.needed
def test_a_query_of_nothing_is_seen(scraped: Prometheus) -> None:
    assert scraped.ask("sum(rcnn_no_such_series)") == []


def test_the_folder_holds_this_dashboard_alone() -> None:
    folder = ROOT / "docker/grafana/dashboards"
    assert [path.name for path in folder.iterdir()] == ["rcnn-serve.json"]
