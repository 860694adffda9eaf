"""Every example in examples/ runs against a server with `shapes`, as far as it can without its program."""

import base64
import csv
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import kubernetes_validate
import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient
from PIL import Image as pillow

from tests.docs.commands import check_rcnn
from tests.examples.conftest import EXAMPLES, KEY
from tests.support.chromium import CHROMIUM, chromium
from tests.support.served import ROOT

pytestmark = pytest.mark.network
SAMPLE = ROOT / "app/samples/shapes-1.jpg"
TRUTH = json.loads(SAMPLE.with_suffix(".json").read_text())
NAMES = sorted(TRUTH["names"])


def run(path: str, *arguments: object) -> dict[str, Any]:
    """Run a program of the examples in this process; its names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES / path), run_name="__main__" if arguments else "example")


def test_every_example_has_a_readme_and_is_listed() -> None:
    overview = (EXAMPLES / "README.md").read_text()
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert re.findall(r"^\| \[[\w-]+\]\(([\w-]+)/README.md\)", overview, re.MULTILINE) != []
    for folder in folders:
        assert (EXAMPLES / folder / "README.md").is_file()
        assert f"[{folder}]({folder}/README.md)" in overview


def test_curl(url: str) -> None:
    command = ["bash", str(EXAMPLES / "curl/detect.sh"), str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    one, batch = (json.loads(line) for line in done.stdout.replace("}{", "}\n{").splitlines())
    assert sorted(one["names"]) == NAMES
    assert [len(result["boxes"]) for result in batch["results"]] == [3, 3]
    with pillow.open("drawn.png") as drawn:
        size = drawn.size
    assert size == (TRUTH["image"]["width"], TRUTH["image"]["height"])
    assert len(json.loads(Path("photo.coco.json").read_text())["annotations"]) >= len(NAMES)


def test_python(url: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        run("python/detect_folder.py", "samples", "found.csv")
    assert ended.value.code == 0
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert sorted(row["name"] for row in rows if row["image"] == "samples/shapes-1.jpg") == NAMES


def test_notebook(url: str) -> None:
    notebook = json.loads((EXAMPLES / "notebook/detect.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102  # as the notebook does
    assert sorted(names["detections"].names) == NAMES


@pytest.mark.browser
def test_javascript_from_another_origin(url: str, origin: str) -> None:
    if not CHROMIUM.exists():
        pytest.skip("there is no chromium here")
    with chromium() as browser:
        page = browser.new_page()
        page.goto(origin)
        page.fill("#server", url)
        page.set_input_files("#file", SAMPLE)
        page.wait_for_function("document.querySelector('#state').textContent.includes('objects')")
        assert page.text_content("#state").startswith(f"{len(NAMES)} objects")  # type: ignore[union-attr]  # it is there
        width = page.evaluate("document.querySelector('#canvas').width")
        assert width == TRUTH["image"]["width"]


# What the programs accept: deepstack_object's PLATFORM_SCHEMA, and Frigate's detector `deepstack`.
DEEPSTACK_OBJECT = {
    *("platform", "ip_address", "port", "api_key", "timeout", "custom_model", "targets", "confidence"),
    *("roi_y_min", "roi_x_min", "roi_y_max", "roi_x_max", "scale", "save_file_folder"),
    *("save_timestamped_file", "show_boxes", "source", "scan_interval"),
}
FRIGATE_DEEPSTACK = {"type", "api_url", "api_timeout", "api_key", "model", "model_path"}


def test_home_assistant(url: str) -> None:
    config = yaml.safe_load((EXAMPLES / "home-assistant/configuration.yaml").read_text())
    [platform] = config["image_processing"]
    assert set(platform) <= DEEPSTACK_OBJECT
    answer = httpx.post(  # as deepstack-python does
        f"{url}/v1/vision/detection",
        data={"api_key": platform["api_key"], "min_confidence": "0.1"},
        files={"image": SAMPLE.read_bytes()},
    ).json()
    assert answer["success"] is True
    assert {"label", "confidence", "x_min", "y_min", "x_max", "y_max"} <= set(answer["predictions"][0])
    [rest] = config["rest"]
    assert rest["resource"].endswith("/health")
    assert "value_json.status" in rest["sensor"][0]["value_template"]
    assert httpx.get(f"{url}/health").json()["status"] == "ok"


def test_frigate(url: str) -> None:
    config = yaml.safe_load((EXAMPLES / "frigate/config.yml").read_text())
    detector = config["detectors"]["rcnn"]
    assert set(detector) <= FRIGATE_DEEPSTACK
    assert detector["type"] == "deepstack"
    assert (config["model"]["width"], config["model"]["height"]) == (320, 320)
    path = httpx.URL(detector["api_url"]).path
    answer = httpx.post(  # as Frigate does
        url + path, data={"api_key": detector["api_key"]}, files={"image": SAMPLE.read_bytes()}
    ).json()
    assert sorted(one["label"] for one in answer["predictions"]) == NAMES


def test_node_red(url: str) -> None:
    nodes = {node["id"]: node for node in json.loads((EXAMPLES / "node-red/flow.json").read_text())}
    assert {node["type"] for node in nodes.values()} == {
        *("tab", "inject", "file in", "http request", "function", "debug")
    }
    for node in nodes.values():
        assert all(target in nodes for wires in node.get("wires", []) for target in wires)
    request = nodes["rcnn-detect"]
    target = httpx.URL(request["url"])
    headers = {header["keyValue"]: header["valueValue"] for header in request["headers"]}
    answer = httpx.request(
        request["method"], url + target.raw_path.decode(), content=SAMPLE.read_bytes(), headers=headers
    )
    assert headers["X-API-Key"] == KEY
    assert sorted(answer.json()["names"]) == NAMES  # what the function counts


def test_label_studio(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", url)  # the samples are there
    labels = "".join(f'<Label value="{name}"/>' for name in {*NAMES} - {"ring"})
    config = (
        '<View><Image name="img" value="$photo"/>'
        f'<RectangleLabels name="box" toName="img">{labels}</RectangleLabels></View>'
    )
    sample = httpx.get(f"{url}/samples").json()["samples"][0]["url"]
    body = {"tasks": [{"id": 7, "data": {"photo": "/" + sample.lstrip("/")}}], "project": "1.1"}
    program = run("label-studio/backend.py")
    with TestClient(program["app"]) as backend, program["detector"]:
        assert backend.get("/health").json()["status"] == "UP"
        assert backend.post("/setup", json={"project": "1.1", "schema": config}).json()["model_version"]
        answer = backend.post("/predict", json=body | {"label_config": config}).json()
        refused = backend.post("/predict", json=body | {"label_config": "<View/>"})
        elsewhere = body | {"tasks": [{"data": {"photo": "http://192.0.2.1/a.jpg"}}], "label_config": config}
        foreign = backend.post("/predict", json=elsewhere)
    [result] = answer["results"]
    regions = result["result"]
    assert "ring" in NAMES
    assert sorted(region["value"]["rectanglelabels"][0] for region in regions) == [
        name for name in NAMES if name != "ring"
    ]
    assert {(region["from_name"], region["to_name"]) for region in regions} == {("box", "img")}
    assert all(0 <= region["value"]["x"] + region["value"]["width"] <= 100 for region in regions)
    assert (refused.status_code, foreign.status_code) == (422, 422)


class Response(SimpleNamespace):
    """Nuclio's response."""


def test_cvat_nuclio(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((EXAMPLES / "cvat/nuclio/function.yaml").read_text())
    spec = json.loads(config["metadata"]["annotations"]["spec"])
    runpy.run_path(str(EXAMPLES / "cvat/labels.py"))
    assert json.loads(capsys.readouterr().out) == spec
    module, function = config["spec"]["handler"].split(":")
    program = run(f"cvat/nuclio/{module}.py")
    context = SimpleNamespace(user_data=SimpleNamespace(), Response=Response)
    program["init_context"](context)
    body = {"image": base64.b64encode(SAMPLE.read_bytes()).decode(), "threshold": 0.5}
    answer = program[function](context, SimpleNamespace(body=body))
    shapes = json.loads(answer.body)
    context.user_data.client.close()
    assert sorted(shape["label"] for shape in shapes) == NAMES
    assert {shape["type"] for shape in shapes} == {"rectangle"}


def test_cvat_sdk(url: str) -> None:
    program = run("cvat/aa_function.py")
    assert {label.name for label in program["spec"].labels} >= {*NAMES}
    names = {label.id: label.name for label in program["spec"].labels}
    with pillow.open(SAMPLE) as image, program["client"]:
        shapes = program["detect"](SimpleNamespace(conf_threshold=0.5), image)
        assert program["detect"](SimpleNamespace(conf_threshold=None), image)
    assert sorted(names[shape.label_id] for shape in shapes) == NAMES


def test_gradio(url: str) -> None:
    program = run("gradio/demo.py")
    detect = program["detect"]
    with pillow.open(SAMPLE) as image, program["client"]:
        drawn, rows = detect(np.asarray(image), 0.5)
    assert sorted(name for name, _ in rows) == NAMES
    assert drawn.size == (TRUTH["image"]["width"], TRUTH["image"]["height"])
    assert detect(None, 0.5) == (None, [])


def test_kubernetes_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = yaml.safe_load((EXAMPLES / "kubernetes-job/job.yaml").read_text())
    kubernetes_validate.validate(job, "1.29", strict=True)
    pod = job["spec"]["template"]["spec"]
    [detect] = [one for one in pod["initContainers"] if one["name"] == "detect"]
    assert detect["command"] == ["rcnn"]
    args = [argument.replace("/files/", "") for argument in detect["args"]]
    check_rcnn(args)
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line accepts the commands; tests/app/commands/test_train.py runs such a training."""
    monkeypatch.chdir(tmp_path)
    script = (EXAMPLES / "train/train.sh").read_text()
    assert script.count("\n") <= 11
    commands = re.findall(r"^rcnn (.+)$", script, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["train", "evaluate", "detect"]
    for command in commands:
        check_rcnn(shlex.split(command.replace("${@:3}", "--epochs=1").replace("$", "")))
