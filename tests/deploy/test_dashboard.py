"""The Grafana dashboard: its files fit together, its queries name series and labels that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.telemetry.metrics import Metrics
from tests.deploy.test_deploy import exported_series
from tests.support.fakes import picture
from tests.support.served import ROOT, Served

DASHBOARD: dict[str, Any] = json.loads((ROOT / "docker/grafana/dashboards/rcnn-serve.json").read_text())
SUBJECTS = (
    *("Requests by status", "Time by stage", "Requests, heat map", "Stage $stage, heat map"),
    *("Queue", "Batch size", "Rejected, by code", "Cancelled", "Deadlines missed", "Padding"),
    *("Device memory", "Streams", "Priorities", "Devices"),
    *("Requests by model", "Batch time p99, by model", "Time in the queue, by model", "Failed loads"),
    "Captures",
)


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def variables() -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


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


def test_grafana_finds_its_data_and_this_dashboard_alone() -> None:
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
    assert [path.name for path in (ROOT / "docker/grafana/dashboards").iterdir()] == ["rcnn-serve.json"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / home.replace(provider["options"]["path"], mounts[provider["options"]["path"]])).is_file()


def test_grafana_shows_and_takes_no_password() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    environment = grafana["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert not [name for name in environment if "PASSWORD" in name or "SECRET" in name]


# --- the queries


LABELS = {
    series.name + part: {"instance", "job", "le", *series.labels}
    for series in Metrics().series
    for part in ("", "_bucket", "_sum", "_count")
}
PROCESS = {"instance", "job"}


@pytest.mark.parametrize("expression", sorted(set(queries())), ids=lambda text: text[:60])
def test_a_query_names_series_and_labels_that_exist(expression: str) -> None:
    named = set(re.findall(r"\b(?:rcnn|process|python)_\w+", re.sub(r"\{[^}]*\}", "", expression)))
    assert named
    assert named <= exported_series()
    assert 'instance=~"$instance"' in expression
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)=", matchers)) <= LABELS.get(name, PROCESS)
        assert ('model=~"$model"' in matchers) == ("model" in LABELS.get(name, PROCESS))
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert set(grouped.split(", ")) <= set().union(*(LABELS.get(name, PROCESS) for name in named))


def test_variables_ask_for_labels_that_exist() -> None:
    for variable in variables().values():
        query = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["query"]["query"])
        assert query, variable["query"]
        assert query[1] in exported_series()
        assert query[2] in LABELS[query[1]]
    assert re.fullmatch(variables()["route"]["allValue"], "/detect")


async def test_the_stages_named_are_those_of_a_request(served: Served) -> None:
    headers = {"Content-Type": "image/png"}
    (await served.client.post("/detect", content=picture(), headers=headers)).raise_for_status()
    stages = {stage for query in queries() for stage in re.findall(r'stage="([^"]*)"', query)}
    for stage in stages | set(variables()["stage"]["current"]["value"]):
        assert await served.metric("rcnn_stage_duration_seconds_count", stage=stage, model="fake") == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed here")
def test_prometheus_reads_the_queries(tmp_path: Path) -> None:
    texts = [re.sub(r"\$__rate_interval", "1m", query) for query in queries()]
    rules = [{"record": f"dashboard:{number}", "expr": text} for number, text in enumerate(texts)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(texts)} rules found" in done.stdout
