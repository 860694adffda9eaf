"""Requests of many small parts: none stalls the event loop or takes much memory, whichever its route."""

import asyncio
import re
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from app.main import ROUTERS
from app.schemas.limits import MAX_JSON_VALUES, MAX_LOOP_BYTES, MAX_QUERY_PARAMETERS
from tests.support.asgi_request import AsgiRequest
from tests.support.data.moving import Socket
from tests.support.protocols import FOUND, PNG, PROTOCOLS, openinference_objects
from tests.support.served import Serve, Served
from tests.support.tiny_parts import HEADERS, JSON_TYPE, QUERIES, Watchdog, bodies, repeated

SIZE = (
    4_000_000  # bytes of a body: what its parser does with one more part, it does 5 times as often in 20 MB
)
STALL = 10  # times the work of a legal body of that size; without bounds it was hundreds
INFER = "/v2/models/fake/infer"


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of every route."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield from ((method, re.sub(r"\{[^}]*\}", "fake", route.path)) for method in route.methods)


WITH_BODY = sorted(path for method, path in routes() if method == "POST" and not path.endswith("load"))


FORGIVING = ("/detect/batch", "/v1/vision/custom/list", "/v2/repository/index", "/webhook")
"""Routes that need no body, or whose answer is 200 with an error for each image."""


async def answered(served: Served, url: str, *, media_type: str = "", body: str = "") -> AsgiRequest:
    """A POST with this body, in one piece, and its answer."""
    request = AsgiRequest(served.app, url, {"content-type": media_type})
    request.send(body.encode())
    await request.answered()
    return request


async def legal_work(served: Served) -> float:
    """Seconds of CPU for a legal body of the same size: an image in base64."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        await answered(served, "/detect", media_type=JSON_TYPE, body=repeated("A", SIZE, '{"image":"', '"}'))
        best = min(best, time.process_time() - start)
    return best


async def test_no_head_of_any_route_stalls_the_event_loop(served: Served) -> None:
    most = STALL * await legal_work(served)
    heads = [(query, {}) for query in QUERIES.values()] + [("", headers) for headers in HEADERS.values()]
    for method, path in sorted(routes()):
        for query, headers in heads:
            async with Watchdog() as watchdog:
                request = AsgiRequest(served.app, f"{path}?{query}", headers, method)
                request.send(b"")
                await request.answered()
            assert watchdog.longest < most, (method, path, query[:40], list(headers)[:1])
            if query.count("&") >= MAX_QUERY_PARAMETERS:
                assert request.status == 422, (method, path)


@pytest.mark.parametrize("path", WITH_BODY)
async def test_no_body_of_any_route_stalls_the_event_loop(served: Served, path: str) -> None:
    most = STALL * await legal_work(served)
    for name, (media_type, body) in bodies(SIZE).items():
        async with Watchdog() as watchdog:
            request = await answered(served, path, media_type=media_type, body=body)
        assert watchdog.longest < most, name
        assert request.status is not None
        assert (200 if path in FORGIVING else 400) <= request.status < 500, (name, request.status)


@pytest.mark.parametrize("path", WITH_BODY)
async def test_no_body_takes_many_times_its_size(served: Served, path: str) -> None:
    size = 1_000_000
    for name, (media_type, body) in bodies(size).items():
        tracemalloc.start()
        try:
            await answered(served, path, media_type=media_type, body=body)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * size + 4_000_000, name


async def test_no_handshake_and_no_options_of_a_socket_stall_the_event_loop(served: Served) -> None:
    most = STALL * await legal_work(served)
    for name in set(QUERIES) - {"a list"}:  # which is legal: of the same class
        async with Watchdog() as watchdog:
            status, problem = await Socket(served.app, f"/detect/live?{QUERIES[name]}").refused()
        assert watchdog.longest < most, name
        assert (status, problem["code"]) == (422, "invalid_parameter")
    socket = Socket(served.app)
    await socket.opened()
    for size in (16_000, SIZE):
        for text in ("[", '"a":0,', " ", "0,"):
            async with Watchdog() as watchdog:
                socket.text(repeated(text, size, "{", '"z":0}'))
                assert "error" in await socket.answer()
            assert watchdog.longest < most, text
    socket.leave()
    await socket.ended()


# what is refused, and what is not


async def test_a_query_may_have_a_class_in_each_parameter(served: Served) -> None:
    for count, status in ((1000, 200), (1001, 422), (MAX_QUERY_PARAMETERS + 1, 422)):
        url = f"/detect?{'&'.join(['classes=disc'] * count)}"
        request = AsgiRequest(served.app, url, {"content-type": "image/png"})
        request.send(PNG)
        await request.answered()
        assert (request.status, count) == (status, count)
    assert f"the query has 1101 parameters, {MAX_QUERY_PARAMETERS} are allowed" in request.problem["detail"]


async def test_the_refusal_of_a_query_is_in_the_protocols_own_shape(served: Served) -> None:
    for protocol in PROTOCOLS.values():
        response = await served.client.post(f"{protocol.path}?{'a&' * 2000}")
        assert "2001 parameters" in protocol.refused(response, 422)


async def test_json_of_too_many_values_says_what_to_send(served: Served) -> None:
    names = ["disc"] * 1000
    body = {"instances": [PROTOCOLS["kserve"].body(b"x")[0].decode()], "parameters": {"classes": names}}
    response = await served.client.post("/v1/models/fake:predict", json=body)
    assert "instances.0" in PROTOCOLS["kserve"].refused(response, 422)  # it is the image that is wrong
    response = await served.client.post("/detect", json={"image": "", "keys": [0] * MAX_JSON_VALUES})
    assert response.status_code == 422
    assert response.json()["detail"].startswith('the JSON has more than 4096 values; send {"image"')


async def test_a_large_body_is_parsed_beside_the_event_loop(served: Served) -> None:
    """Of the work for it, the event loop does the smaller part."""
    pixels = ",".join(["7"] * 1_200_000)
    body = f'{{"inputs":[{{"name":"images","datatype":"UINT8","shape":[1,500,800,3],"data":[{pixels}]}}]}}'
    assert len(body) > MAX_LOOP_BYTES
    before, loop_before = time.process_time(), time.thread_time()
    request = await answered(served, INFER, media_type=JSON_TYPE, body=body)
    work, loop_work = time.process_time() - before, time.thread_time() - loop_before
    assert openinference_objects(request.answer)[0][:2] == FOUND[0][:2]
    assert loop_work < work / 2


# numbers in JSON

LISTS = {
    "[1,2,3,4,5,6,7,8,9,10,11,12]": True,
    "[[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]]]": True,
    "[[1,2,3,4,5,6],\n [7,8,9,10,11,12]]": True,
    "[[[[[[1]],[[2]],[[3]]]]], 4]": False,
    "[[1,2,3,4,5,6],[7,8,9,10,11],12]": False,
    "[1,2,3,4,5,6,7,8,9,10,11]": False,
    "[1,2,3,4,5,6,7,8,9,10,,11,12]": False,
    "[1,2,3,4,5,6,7,8,9,10,11,12,]": False,
    "[[1,2,3,4,5,6][7,8,9,10,11,12]]": False,
    "[1[2],3,4,5,6,7,8,9,10,11,12,13]": False,
    "[1,2,3,4,5,6,7,8,9,10,11 12,13]": False,
    "[1,2,3,4,5,6,7,8,9,10,11,012]": False,
    "[1,2,3,4,5,6,7,8,9,10,11,1e1]": False,
    "[1,2,3,4,5,6,7,8,9,10,11,256]": False,
    "[1,2,3,4,5,6,7,8,9,10,11,-1]": False,
    "[[],[]]": False,
    "[[[[[[[[[[[[1,2,3,4,5,6,7,8,9,10,11,12]]]]]]]]]]]]": False,
    '[1,2,3,4,5,6,7,8,9,10,11,"12"]': False,
    "12": False,
}


@pytest.mark.parametrize(("data", "valid"), LISTS.items())
async def test_pixels_in_json_are_whole_numbers_in_regular_lists(
    served: Served, data: str, valid: bool
) -> None:
    body = f'{{"inputs":[{{"name":"images","datatype":"UINT8","data" : {data},"shape":[1,2,2,3]}}]}}'
    request = await answered(served, INFER, media_type=JSON_TYPE, body=body)
    assert request.status == (200 if valid else 422)
    assert served.detector.rows == ([bytes(range(1, 7))] if valid else [])


async def test_many_requests_of_many_parts_are_refused_at_once(serve: Serve) -> None:
    async with serve(max_queue_bytes=1 << 30) as served:
        media_type, body = bodies(SIZE)["inputs"]
        work = (answered(served, INFER, media_type=media_type, body=body) for _ in range(20))
        assert {request.status for request in await asyncio.gather(*work)} == {422}
