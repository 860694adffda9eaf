"""The OpenAPI document for code generators: the rules of `spectral:oas`, names, and examples that fit.

The arbiter is `npx @stoplight/spectral-cli lint` with `extends: ["spectral:oas"]`: `make test-clients`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest

from tests.support.served import serve_app

OPERATIONS = {
    ("post", "/detect"): "detect",
    ("put", "/detect"): "detect_file",
    ("post", "/detect/batch"): "detect_batch",
    ("post", "/detect/stream"): "detect_stream",
    ("get", "/models"): "list_models",
    ("get", "/labels"): "list_labels",
    ("get", "/health"): "get_health",
    ("post", "/models/{name}/load"): "load_model",
    ("post", "/models/{name}/unload"): "unload_model",
    ("post", "/v2/models/{name}/infer"): "oip_infer",
}
NAMED = {
    *("DetectForm", "BatchForm", "StreamForm", "DetectResponse", "ObjectsResponse", "BatchResponse"),
    *("ModelsResponse", "DetectedObject", "Box", "CocoDataset", "LabelStudioTask", "FeatureCollection"),
    *("Problem", "Health", "ModelList", "OipInference", "RoboflowInference", "KServePredict"),
}


@pytest.fixture
async def document() -> Any:
    async with serve_app() as served:
        return (await served.client.get("/openapi.json")).json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def nodes(value: Any, parent: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of the document with the key that holds it or its list."""
    yield parent, value
    if isinstance(value, dict):
        for key, one in value.items():
            yield from nodes(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from nodes(one, parent)


def test_operations_have_the_names_that_a_person_would_choose(document: Any) -> None:
    ids = {(method, path): one["operationId"] for method, path, one in operations(document)}
    assert OPERATIONS.items() <= ids.items()
    assert len(set(ids.values())) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", one) for one in ids.values())


def test_the_document_keeps_the_rules_of_spectral(document: Any) -> None:
    assert document["servers"][0]["url"] == "."
    assert document["info"]["contact"]
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(tags.values())
    for method, path, operation in operations(document):
        assert operation["description"], (method, path)
        assert operation["tags"], (method, path)
        assert set(operation["tags"]) <= set(tags)
        assert any(status.startswith("2") for status in operation["responses"])
        declared = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path)), path
        assert len(operation.get("requestBody", {"content": [1]})["content"]) == 1, "one media type a body"


def test_every_schema_can_be_named_by_a_generator(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas) >= NAMED
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in schemas)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references == set(schemas)  # none is missing, and none unused
    for key, node in nodes(document):
        if isinstance(node, dict) and key != "properties":
            assert node.get("type") != "array" or "items" in node
            assert node.get("type") != "null" or key == "anyOf", "a bare null type"
            assert "$defs" not in node
    assert schemas["DetectResponse"]["properties"]["boxes"]["items"] == {
        "items": {"type": "number"},
        "minItems": 4,
        "maxItems": 4,
        "type": "array",
    }


def test_parameters_have_no_null_and_no_default_that_clients_would_send(document: Any) -> None:
    for _, path, operation in operations(document):
        if not f"{path}/".startswith("/detect/"):
            continue
        for one in operation["parameters"]:
            assert '"null"' not in json.dumps(one), one["name"]
            assert "default" not in one["schema"], one["name"]


def test_keys_are_alternatives_and_may_be_left_out(document: Any) -> None:
    places = document["components"]["securitySchemes"]
    header = [{"HTTPBearer": []}, {"APIKeyHeader": []}]
    assert places["APIKeyQuery"] == {**places["APIKeyQuery"], "in": "query", "name": "api_key"}
    paths = document["paths"]
    assert paths["/detect"]["post"]["security"] == [*header, {}]
    assert paths["/infer/object_detection"]["post"]["security"] == [*header, {"APIKeyQuery": []}, {}]
    assert paths["/models/{name}/load"]["post"]["security"] == header  # a key that may, or nothing
    assert "security" not in paths["/health"]["get"]


def test_examples_fit_their_schemas(document: Any) -> None:
    count = 0
    for _, content in nodes(document["paths"]):
        if not isinstance(content, dict) or not isinstance(content.get("schema"), dict):
            continue
        examples = [one["value"] for one in content.get("examples", {}).values()]
        examples += [content["example"]] if "example" in content else []
        examples += content["schema"].get("examples", [])
        checker = jsonschema.Draft202012Validator({**content["schema"], "components": document["components"]})
        for example in examples:
            checker.validate(example)
            count += 1
    assert count > 100
