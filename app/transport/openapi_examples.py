"""Examples for the OpenAPI document: responses of our own API."""

from typing import Any

VERSION = "3b1f0c9a52de"  # of a model
REQUEST_ID = "6f1c0c3f4f5e4a0e9c6a2b1d8e7f0a1b"
DETECTION = {
    "boxes": [[12.5, 30.0, 200.25, 310.75]],
    "labels": [1],
    "scores": [0.98],
    "names": ["person"],
    "image": {"width": 640, "height": 480},
    "model": "coco-r50-fpn",
    "model_version": VERSION,
    "box_format": "xyxy",
    "timings_ms": {
        "decode": 3.1,
        "queue": 0.2,
        "inference": 41.0,
        "postprocess": 0.4,
        "total": 45.2,
    },
    "request_id": REQUEST_ID,
}
OBJECTS = {
    "objects": [
        {
            "name": "person",
            "label": 1,
            "score": 0.98,
            "box": {"x1": 12.5, "y1": 30.0, "x2": 200.25, "y2": 310.75},
        }
    ],
    **{
        name: value for name, value in DETECTION.items() if name not in ("boxes", "labels", "scores", "names")
    },
}
COCO = {
    "info": {"description": "detections of coco-r50-fpn"},
    "images": [{"id": 1, "file_name": "street.jpg", "width": 640, "height": 480}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [12.5, 30.0, 187.75, 280.75],
            "area": 52710.812,
            "iscrowd": 0,
            "score": 0.98,
        }
    ],
}
LABEL_STUDIO = [
    {
        "data": {"image": "street.jpg"},
        "predictions": [
            {
                "model_version": "coco-r50-fpn",
                "score": 0.98,
                "result": [
                    {
                        "id": "object-1",
                        "type": "rectanglelabels",
                        "from_name": "label",
                        "to_name": "image",
                        "original_width": 640,
                        "original_height": 480,
                        "image_rotation": 0,
                        "score": 0.98,
                        "value": {
                            "x": 1.95312,
                            "y": 6.25,
                            "width": 29.33594,
                            "height": 58.48958,
                            "rotation": 0,
                            "rectanglelabels": ["person"],
                        },
                    }
                ],
            }
        ],
    }
]
FAILED = {
    "error": {
        "type": "urn:rcnn-serve:problem:invalid_image",
        "title": "The image cannot be read",
        "status": 400,
        "detail": "the JPEG is cut short; send the whole file",
        "code": "invalid_image",
        "request_id": REQUEST_ID,
    }
}
BATCH = {"results": [DETECTION, FAILED]}
TEXTS = {
    "application/xml": "<annotation><filename>street.jpg</filename><size><width>640</width>"
    "<height>480</height><depth>3</depth></size><object><name>person</name><difficult>0</difficult><bndbox><xmin>12</xmin>"
    "<ymin>30</ymin><xmax>200</xmax><ymax>311</ymax></bndbox></object></annotation>",
    "text/csv": "image,name,label,score,xmin,ymin,xmax,ymax\r\n"
    "street.jpg,person,1,0.98,12.5,30.0,200.25,310.75\r\n",
    "text/plain": "0 0.1662109 0.3549479 0.2933594 0.5848958\n",
}
"""Exports that are not JSON, by media type; see app/schemas/exports.py."""

GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[12.5, 30], [200.25, 30], [200.25, 310.75], [12.5, 310.75], [12.5, 30]]],
            },
            "properties": {"name": "person", "label": 1, "score": 0.98},
        }
    ],
}
WHY_PRECISION = "fp32 is exact; bf16: its AP is not recorded; int8: it has no artefact"
HEALTH = {
    "status": "ok",
    "model": "coco-r50-fpn",
    "model_version": VERSION,
    "loading": None,
    "device": "cpu",
    "devices": [{"device": "cpu", "state": "working", "reason": None}],
    "engine": "openvino",
    "precision": "fp32",
    "precision_reason": WHY_PRECISION,
    "models": [
        {
            "name": "coco-r50-fpn",
            "version": VERSION,
            "state": "ready",
            "device": "cpu",
            "engine": "openvino",
            "precision": "fp32",
            "precision_reason": WHY_PRECISION,
            "reason": None,
        }
    ],
    "version": "0.1.0",
    "queue_depth": 0,
    "uptime_seconds": 86400.0,
    "fallback_reason": None,
    "hint": None,
    "captures": None,
}
UNHEALTHY = (
    HEALTH
    | dict.fromkeys(("model", "model_version", "device", "engine", "precision", "precision_reason"))
    | {
        "status": "loading",
        "devices": [],
        "models": [
            dict.fromkeys(("version", "device", "engine", "precision", "precision_reason", "reason"))
            | {"name": "coco-r50-fpn", "state": "loading"}
        ],
    }
)
CAPTURE = {
    "id": "20261130T081500123-9f2c51aa",
    "time": "2026-11-30T08:15:00.123+00:00",
    "model": "coco-r50-fpn",
    "model_version": VERSION,
    "reason": "score=0-0.7",
    "request_id": REQUEST_ID,
    "file": "20261130T081500123-9f2c51aa.jpg",
    "detections": 1,
    "classes": ["person"],
    "coco": None,
}
CAPTURES = {
    "rules": "score=0-0.7,none",
    "days": 30.0,
    "max_bytes": 1 << 30,
    "bytes": 184_320,
    "count": 1,
    "captures": [CAPTURE],
}
CAMERA_REQUEST = {
    "name": "gate",
    "source": "rtsp://user:password@192.168.1.20/stream1",
    "fps": 2,
    "track": True,
    "score_threshold": 0.6,
    "classes": ["person"],
    "webhook": {"url": "https://hooks.example.org/gate", "secret": "a-long-random-secret"},
}
CAMERA = {
    "name": "gate",
    "source": "rtsp://192.168.1.20:554/…",
    "state": "running",
    "reason": None,
    "model": None,
    "frames": 812,
    "answered": 64,
    "failed": 0,
    "dropped": 747,
    "connections": 1,
    "last_frame": "2026-11-30T08:15:00.123+00:00",
    "options": {"fps": 2.0, "track": True, "score_threshold": 0.6, "classes": ["person"]},
    "deliveries": [
        {
            "receiver": "webhook",
            "address": "https://hooks.example.org:443/…",
            "delivered": 64,
            "dropped": 0,
            "failed": 0,
            "reason": None,
        }
    ],
}
CAMERA_LINES = (
    {"stream": "gate", "state": "running", "reason": None},
    {
        "stream": "gate",
        "frame": 811,
        "dropped": 747,
        "time": "2026-11-30T08:15:00.123+00:00",
        **DETECTION,
        "track_ids": [7],
    },
)
READY = {"ready": True, "status": "ok", "reason": None}
UNREADY = {"ready": False, "status": "loading", "reason": "the model is being loaded"}
MODELS = {
    "loaded": "shapes",
    "loaded_version": VERSION,
    "loading": None,
    "models": [
        {
            "name": "shapes",
            "loaded": True,
            "state": "ready",
            "memory_bytes": 62914560,
            "last_used_seconds": 0.25,
            "precision_reason": "the fastest of those that are proven: int8 8.1, fp32 22.4 ms here",
            "requests": 1024,
            "architecture": "small",
            "weights": "file:shapes.safetensors",
            "sha256": None,
            "labels": ["background", "disc", "square"],
            "score_threshold": 0.5,
            "nms_threshold": 0.5,
            "max_detections": 100,
            "min_size": 320,
            "max_size": 533,
            "training": None,
            "accuracy": {"fp32": 0.8873, "int8": 0.8867},
            "int8": None,
        }
    ],
}
LABELS = {"1": "person", "2": "bicycle"}
SAMPLES = {
    "samples": [{"name": "shapes-1.jpg", "url": "/samples/shapes-1.jpg", "truth": "/samples/shapes-1.json"}]
}
METRICS = "# TYPE rcnn_queue_depth gauge\nrcnn_queue_depth 0.0\n"


NULL = "null, which FastAPI leaves out of an example"


def shown(example: object, media_type: str = "application/json") -> dict[str, Any]:
    """An example as part of the documentation of a response."""
    return {"content": {media_type: {"example": _keep_nulls(example)}}}


def _keep_nulls(value: Any) -> Any:
    """The value with NULL in place of null."""
    if isinstance(value, dict):
        return {key: _keep_nulls(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_keep_nulls(one) for one in value]
    return NULL if value is None else value
