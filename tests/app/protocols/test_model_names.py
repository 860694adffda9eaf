"""Every protocol names its model its own way, and the model of that name answers, or the alias's."""

import json

import pytest

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from tests.app.protocols.openinference.test_grpc import calls, refusal
from tests.app.protocols.test_dialects import NAMED
from tests.support.data.moving import Socket
from tests.support.protocols import PNG, PROTOCOLS, TEXT
from tests.support.served import Serve
from tests.support.several import FIRST, SECOND, THIRD, several

ALIAS = "blood"


@pytest.mark.parametrize(("path", "name"), NAMED.items())
async def test_the_model_of_the_path_answers(serve: Serve, path: str, name: str) -> None:
    content, media_type = PROTOCOLS[name].body(PNG)
    async with several(serve, model_aliases=f"{ALIAS}={SECOND}") as models:
        for text, model in ((FIRST, FIRST), (SECOND, SECOND), (ALIAS, SECOND)):
            response = await models.served.client.post(
                path.format(text), content=content, headers={"Content-Type": media_type}
            )
            assert (response.status_code, response.headers.get("X-Model")) == (200, model), response.text
            assert models.detectors[model].card.labels[1] in response.text or "openinference" in name


async def test_the_models_of_a_server_are_listed_in_every_protocol(serve: Serve) -> None:
    async with several(serve) as models:
        get, post = models.served.client.get, models.served.client.post
        assert (await get("/v1/models")).json()["models"] == [FIRST, SECOND]
        assert (await post("/v1/vision/custom/list")).status_code in (200, 415)
        assert (await get(f"/v1/models/{SECOND}")).json() == {"name": SECOND, "ready": True}
        metadata = (await get(f"/v2/models/{SECOND}")).json()
        assert (metadata["name"], metadata["versions"]) == (SECOND, ["1", f"{SECOND}-1"])
        states = {one["name"]: one["state"] for one in (await post("/v2/repository/index")).json()}
        assert [states[name] for name in (FIRST, SECOND, THIRD)] == ["READY", "READY", "UNAVAILABLE"]


async def test_roboflows_body_names_the_model(serve: Serve) -> None:
    async with several(serve) as models:
        body = {"model_id": f"{SECOND}/1", "image": {"type": "base64", "value": TEXT}}
        response = await models.served.client.post("/infer/object_detection", json=body)
        assert response.headers["X-Model"] == SECOND
        assert response.json()["predictions"][0]["class"] == "kite"


async def test_a_frame_of_a_socket_is_of_the_model_that_its_options_name(serve: Serve) -> None:
    async with several(serve) as models:
        live = Socket(models.served.app, f"/detect/live?model={SECOND}")
        await live.opened()
        live.frame(PNG)
        assert (await live.answer())["model"] == SECOND
        live.text(json.dumps({"model": FIRST}))
        assert (await live.answer())["options"]["model"] == [FIRST]
        live.frame(PNG)
        assert (await live.answer())["model"] == FIRST
        live.text(json.dumps({"model": "yolo"}))
        assert (await live.answer())["error"]["code"] == "unknown_model"
        live.leave()
        await live.ended()


async def test_grpc_names_loads_and_unloads_models(serve: Serve) -> None:
    async with several(serve, max_loaded_models=3) as models, calls(models.served) as stub:
        admin = (("x-api-key", "chief"),)
        await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=THIRD), metadata=admin)
        for name in (SECOND, THIRD):
            request = pb.ModelInferRequest(model_name=name)
            request.inputs.add(name="image", datatype="BYTES", shape=[1]).contents.bytes_contents.append(PNG)
            answer = await stub.ModelInfer(request)
            assert (answer.model_name, answer.model_version) == (name, f"{name}-1")
            config = await stub.ModelConfig(pb.ModelConfigRequest(name=name))
            assert config.config.name == name
        await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=THIRD), metadata=admin)
        gone = await refusal(stub.ModelInfer(request))
        assert (gone.code().name, THIRD in gone.details()) == ("NOT_FOUND", True)
