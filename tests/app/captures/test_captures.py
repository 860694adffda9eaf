"""Images that a rule selects are kept with their detections, in bounds; an admin lists and erases them."""

import asyncio
import io
import os
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as pillow

from app.captures.recorder import MAX_HELD_BYTES
from tests.support.fakes import picture
from tests.support.served import Served, eventually, serve_app

ADMIN = {"X-API-Key": "admin"}
PNG = {"Content-Type": "image/png"}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def capturing(folder: Path, rules: str, **settings: Any) -> Any:
    return serve_app(capture_dir=folder, capture_rules=rules, admin_keys=["admin"], **settings)


async def detect(served: Served, image: bytes | None = None, **options: Any) -> dict[str, Any]:
    response = await served.client.post("/detect", content=image or picture(), params=options, headers=PNG)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def kept(served: Served, count: int) -> list[dict[str, Any]]:
    """The list of captures, once that many are written."""
    store = served.app.state.captures.store
    await eventually(lambda: len(store) == count, f"{count} captures")
    answer = (await served.client.get("/captures", headers=ADMIN)).json()
    assert answer["count"] == count
    return list(answer["captures"])


async def test_the_original_is_kept_with_its_detections_and_can_be_erased(tmp_path: Path) -> None:
    image = picture()
    async with capturing(tmp_path, "score=0.7-0.8") as served:
        answer = await detect(served, image)
        [entry] = await kept(served, 1)
        assert (entry["model"], entry["reason"], entry["detections"]) == ("fake", "score=0.7-0.8", 2)
        assert entry["request_id"] == answer["request_id"]
        url = f"/captures/{entry['id']}"
        found = await served.client.get(f"{url}/image", headers=ADMIN)
        assert (found.content, found.headers["content-type"]) == (image, "image/png")
        coco = (await served.client.get(url, headers=ADMIN)).json()["coco"]
        assert [one["score"] for one in coco["annotations"]] == answer["scores"]
        assert entry["classes"] == ["Square", "disc"]
        assert (await served.client.delete(url, headers=ADMIN)).status_code == 204
        assert await kept(served, 0) == []
        for path in (url, f"{url}/image", "/captures/..%2Fx"):
            assert (await served.client.get(path, headers=ADMIN)).status_code == 404
    assert files(tmp_path) == []


async def test_captures_are_listed_in_parts_and_erased_at_once(tmp_path: Path) -> None:
    async with capturing(tmp_path, "share=1") as served:
        for _ in range(3):
            await detect(served)
        ids = [entry["id"] for entry in await kept(served, 3)]
        assert ids == sorted(ids, reverse=True)
        rest = await served.client.get("/captures", params={"before": ids[0], "limit": 1}, headers=ADMIN)
        assert [entry["id"] for entry in rest.json()["captures"]] == [ids[1]]
        assert (await served.client.delete("/captures")).status_code == 401
        assert (await served.client.delete("/captures", headers=ADMIN)).status_code == 204
        assert await kept(served, 0) == []
        with served.app.state.captures.store._lock:  # the writer waits, and what it has to write
            for _ in range(3):
                await detect(served)
            erasing = asyncio.ensure_future(served.client.delete("/captures", headers=ADMIN))
        assert (await erasing).status_code == 204
        assert await kept(served, 0) == []
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("rules", "options", "reason"),
    [
        ("class=Square", {}, "class=Square"),
        ("class=kite,score=0-0.5", {}, None),  # the answer has no detection of such a score
        ("none", {"classes": "kite"}, "none"),
        ("none", {}, None),
        ("share=1", {}, "share=1"),
        ("share=0", {}, None),
    ],
)
async def test_a_rule_decides(
    tmp_path: Path, rules: str, options: dict[str, Any], reason: str | None
) -> None:
    async with capturing(tmp_path, rules) as served:
        await detect(served, **options)
        entries = await kept(served, 0 if reason is None else 1)
    assert [entry["reason"] for entry in entries] == ([] if reason is None else [reason])


async def test_a_key_may_be_left_out(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("camera=first\nclinic=second\n")
    folder = tmp_path / "kept"
    async with capturing(folder, "share=1", api_keys_file=keys, capture_except=["clinic"]) as served:
        for key in ("second", "first"):
            headers = PNG | {"X-API-Key": key}
            answer = await served.client.post("/detect", content=picture(), headers=headers)
            assert answer.status_code == 200
        [entry] = await kept(served, 1)
        assert entry["request_id"] == answer.json()["request_id"]


async def test_without_a_folder_nothing_is_kept_and_nobody_but_an_admin_sees_captures(tmp_path: Path) -> None:
    async with serve_app(admin_keys=["admin"]) as served:
        answer = await served.client.get("/captures", headers=ADMIN)
        assert (answer.status_code, "RCNN_CAPTURE_DIR" in answer.json()["detail"]) == (404, True)
        assert (await served.client.get("/health")).json()["captures"] is None
    async with capturing(tmp_path, "share=1", capture_days=7) as served:
        assert (await served.client.get("/captures")).status_code == 401
        health = (await served.client.get("/health")).json()["captures"]  # seen by everybody
        assert health == {"rules": "share=1", "days": 7, "max_bytes": 1 << 30, "bytes": 0, "count": 0}


async def test_the_oldest_are_deleted_first_and_a_restart_keeps_the_rest(tmp_path: Path) -> None:
    async with capturing(tmp_path, "share=1", capture_max_bytes=1 << 20) as served:
        padded = picture() + os.urandom(300_000)  # a decoder ignores what follows the end of a PNG
        for _ in range(5):
            await detect(served, padded)
            await eventually(lambda: served.app.state.captures.held_bytes == 0, "it is written")
        first = await kept(served, 3)
        assert await served.metric("rcnn_captures_total", outcome="kept") == 5
        assert await served.metric("rcnn_capture_bytes") <= 1 << 20
    (tmp_path / "fake" / "20260101T000000000-00000000.jpg").write_bytes(b"left by a crash")
    async with capturing(tmp_path, "share=1") as served:
        assert await kept(served, 3) == first
    assert len(files(tmp_path)) == 6


async def test_captures_stay_within_their_bytes_under_load(tmp_path: Path) -> None:
    """Each is counted before the oldest are deleted, so that one more than the bound may be there."""
    padded, sizes = picture() + os.urandom(200_000), []
    async with capturing(tmp_path, "share=1", capture_max_bytes=1 << 20) as served:
        recorder = served.app.state.captures

        async def send() -> None:
            for _ in range(6):
                await detect(served, padded)
                sizes.append(recorder.store.nbytes)

        await asyncio.gather(*(send() for _ in range(6)))
        await eventually(lambda: recorder.held_bytes == 0, "all are written")
        assert await served.metric("rcnn_captures_total", outcome="kept") == 36
        assert max(sizes) <= (1 << 20) + len(padded) + 10_000  # and its description
        on_disk = sum(path.stat().st_size for path in files(tmp_path))
        assert on_disk == recorder.store.nbytes <= 1 << 20


async def test_what_is_too_old_is_deleted(tmp_path: Path) -> None:
    async with capturing(tmp_path, "share=1") as served:
        await detect(served)
        await kept(served, 1)
    for path in files(tmp_path):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    async with capturing(tmp_path, "share=1", capture_days=1) as served:
        assert await kept(served, 0) == []


async def test_a_full_disk_or_a_slow_one_costs_no_request(tmp_path: Path) -> None:
    async with capturing(tmp_path, "share=1") as served:
        (tmp_path / "fake").write_bytes(b"")  # a file in place of the model's folder
        await detect(served)
        await eventually(lambda: served.app.state.captures.held_bytes == 0, "it has failed")
        assert await served.metric("rcnn_captures_total", outcome="failed") == 1
        served.app.state.captures.held_bytes = MAX_HELD_BYTES
        await detect(served)
        assert await served.metric("rcnn_captures_total", outcome="dropped") == 1


async def test_frames_of_an_animation_are_not_kept(tmp_path: Path) -> None:
    file = io.BytesIO()
    frames = [pillow.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    async with capturing(tmp_path, "share=1") as served:
        answer = await served.client.post("/detect/stream", content=file.getvalue())
        assert answer.text.count('"frame"') == 2
        assert await kept(served, 0) == []
