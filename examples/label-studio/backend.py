"""An ML backend for Label Studio: uvicorn backend:app --port 9090"""

import os
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

import httpx
from fastapi import FastAPI, HTTPException

from rcnn_client import Client, Detections

STUDIO = os.environ.get("LABEL_STUDIO_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("LABEL_STUDIO_API_KEY", "")
app = FastAPI(title="rcnn-serve for Label Studio")
detector = Client()  # RCNN_URL and RCNN_API_KEY


@app.get("/")
@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "UP", "model_class": "rcnn-serve"}


@app.post("/setup")
def setup(body: dict[str, Any]) -> dict[str, str]:
    """Called when a project is connected; `schema` is its labelling configuration."""
    controls(body.get("schema", ""))
    return {"model_version": version()}


@app.post("/predict")
def predict(body: dict[str, Any]) -> dict[str, Any]:
    """One prediction for each task, in the same order."""
    control, image, key, labels = controls(body.get("label_config", ""))
    results = []
    for task in body["tasks"]:
        found = detector.detect(read(task["data"][key]), score_threshold=0.3)
        results.append(prediction(found, control, image, labels))
    return {"results": results, "model_version": version()}


@app.post("/webhook", status_code=201)
def webhook() -> dict[str, str]:
    """Annotations are saved; nothing is trained here."""
    return {}


def version() -> str:
    model = detector.get("/health")
    return f"{model['model']}-{model['model_version']}"


def controls(config: str) -> tuple[str, str, str, set[str]]:
    """Names of the RectangleLabels and of its image, the key of the image in a task, and the labels."""
    root = ElementTree.fromstring(config or "<View/>")  # noqa: S314  # of your own Label Studio
    control, image = root.find(".//RectangleLabels"), root.find(".//Image")
    if control is None or image is None:
        raise HTTPException(422, "the labelling configuration needs an Image and RectangleLabels")
    labels = {label.get("value", "") for label in control.iter("Label")}
    return control.get("name", ""), image.get("name", ""), image.get("value", "")[1:], labels


def read(address: str) -> bytes:
    """The image of a task, with the token; from Label Studio only, so that the token goes nowhere else."""
    url = urljoin(STUDIO, address)
    if urlsplit(url)[:2] != urlsplit(STUDIO)[:2]:
        raise HTTPException(422, f"{address} is not at LABEL_STUDIO_URL; upload the images to Label Studio")
    headers = {"Authorization": f"Token {TOKEN}"} if TOKEN else {}
    response = httpx.get(url, headers=headers, timeout=30)
    response.raise_for_status()
    return response.content


def prediction(found: Detections, control: str, image: str, labels: set[str]) -> dict[str, Any]:
    """Detections as Label Studio has them: corner and size in per cent of the image."""
    width, height = found.width, found.height
    regions = []
    for number, one in enumerate(found):
        if one.name in labels:
            x1, y1, x2, y2 = (float(side) for side in one.box)
            value = {
                "x": 100 * x1 / width,
                "y": 100 * y1 / height,
                "width": 100 * (x2 - x1) / width,
                "height": 100 * (y2 - y1) / height,
                "rotation": 0,
                "rectanglelabels": [one.name],
            }
            regions.append(
                {
                    "id": f"object-{number}",
                    "type": "rectanglelabels",
                    "from_name": control,
                    "to_name": image,
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "score": float(one.score),
                    "value": value,
                }
            )
    best = max((region["score"] for region in regions), default=0.0)
    return {"model_version": version(), "score": best, "result": regions}
