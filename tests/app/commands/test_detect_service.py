"""`rcnn detect --url`: where images come from, refusals of the service, tables and drawings."""

import io
import json
import os
import pty
import re
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as pillow

from tests.support.data.moving import video
from tests.support.fakes import picture
from tests.support.process import Program, closed_port
from tests.support.rcnn import RCNN, Ran, rcnn
from tests.support.served import ROOT
from tests.support.servers.http_server import http_server

Detect = Callable[..., Ran]
SQUARE = [8.0, 12.0, 32.0, 36.0]  # in a picture of 64 x 48


# -- inputs --------------------------------------------------------------------------------------------------


def test_options_reach_the_service(detect: Detect, url: str, image: Path) -> None:
    flags = ("--score-threshold", 0.2, "--classes", "square,kite", "--max-detections", 5, "--model", "fake/1")
    [line] = detect(image, "--json", *flags).lines
    query = "score_threshold=0.2&classes=square,kite"
    sent = httpx.post(f"{url}/detect?{query}", files={"image": image.read_bytes()}).json()
    assert line.pop("file") == str(image)
    assert line.pop("request_id") != sent.pop("request_id")
    assert set(line.pop("timings_ms")) == set(sent.pop("timings_ms"))
    assert line == sent
    assert len(detect(image, "--json", "--score-threshold", 0).lines[0]["names"]) == 3
    other = detect(image, "--json", "--model", "yolo")
    assert (other.code, "no model 'yolo'" in other.err) == (1, True)


def test_stdin_is_an_image(detect: Detect) -> None:
    ran = detect("-", "--json", stdin=picture())
    assert (ran.code, ran.err) == (0, "")
    assert [(line["file"], line["names"]) for line in ran.lines] == [("-", ["Square", "disc"])]
    empty = detect("-", "--json")
    assert (empty.code, empty.lines[0]["error"]["code"]) == (1, "invalid_image")


def test_folders_and_patterns_give_each_image_once(detect: Detect, folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / "[a]*.png").write_bytes(picture())  # a file with the characters of a pattern
    (folder / "b.png").unlink()
    for arguments, expected in (
        ([folder / "a.png", folder, folder], ["a.png", "[a]*.png", "deep/a.JPG"]),
        ([f"{folder}/**/a.*", f"{folder}/n*"], ["a.png", "deep/a.JPG"]),
        ([folder / "[a]*.png"], ["[a]*.png"]),
    ):
        ran = detect(*arguments, "--json")
        names = [Path(line["file"]).relative_to(folder).as_posix() for line in ran.lines]
        assert (ran.code, ran.err, names) == (0, "", expected)


def test_inputs_without_an_image_are_wrong_usage(detect: Detect, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    for argument in (tmp_path, f"{tmp_path}/*.gif"):
        ran = detect(argument)
        assert (ran.code, ran.out) == (2, "")
        assert f"no image in {argument}" in ran.err
    for missing in ("none.png", "camera:x", "camera:"):
        ran = detect(missing)
        assert (ran.code, ran.out) == (2, "")
        assert "does not exist" in ran.err


def test_a_name_that_is_not_utf8_is_shown(detect: Detect, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/[bold]\xff.png"))
    odd.write_bytes(picture())
    for flags in ((), ("--json",)):
        ran = detect(odd, *flags)
        assert ran.code == 0
        assert "[bold]\ufffd.png" in ran.out
    odd.write_bytes(b"no image")
    assert "[bold]\ufffd.png: " in detect(odd).err


def test_each_frame_of_a_video_has_its_number_and_time(detect: Detect, tmp_path: Path) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(video(greys=(0, 40, 80, 120, 160)))
    ran = detect(file, "--json", "--save", tmp_path / "drawn", "--every", 2)
    assert (ran.code, ran.err) == (0, "")
    assert [(line["file"], line["frame"], line["seconds"]) for line in ran.lines] == [
        (str(file), 0, 0.0),
        (str(file), 2, 0.2),
        (str(file), 4, 0.4),
    ]
    assert [line["boxes"][0] for line in ran.lines] == [SQUARE] * 3
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["film-000000.png", "film-000002.png", "film-000004.png"]
    greys = []
    for path in drawn:
        with pillow.open(path) as opened:
            greys.append(np.asarray(opened.convert("L"))[-20:, -20:].mean())
    assert greys == pytest.approx([0, 80, 160], abs=6)


def test_a_broken_video_or_camera_loses_no_other(detect: Detect, tmp_path: Path) -> None:
    broken, whole, cut = (tmp_path / name for name in ("broken.mp4", "film.avi", "cut.avi"))
    broken.write_bytes(b"no film")
    whole.write_bytes(video("avi", greys=(0, 40, 80)))
    cut.write_bytes(whole.read_bytes()[:40])
    ran = detect(broken, whole, cut, "camera:973", "--json")
    assert ran.code == 1
    assert ["error" in line for line in ran.lines] == [True, False, False, False, True, True]
    assert f"rcnn: {broken}: not a video of an allowed format" in ran.err
    assert "camera:973: the camera /dev/video973 cannot be opened; check that it exists" in ran.err


def test_many_at_a_time_come_in_order(detect: Detect, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.png").write_bytes(picture(32 + number, 32))
    ran = detect(tmp_path, "--json", "--in-flight", 8, "--save", tmp_path / "drawn")
    assert [line["image"]["width"] for line in ran.lines] == list(range(32, 72))
    assert (ran.code, len(list((tmp_path / "drawn").iterdir()))) == (0, 40)


def test_tiles_are_cut_by_the_service(detect: Detect, tmp_path: Path) -> None:
    pillow.new("RGB", (900, 600)).save(tmp_path / "large.png")
    for name, size in (("middle", (120, 100)), ("small", (64, 48))):
        (tmp_path / f"{name}.png").write_bytes(picture(*size))
    ran = detect(tmp_path, "--json", "--tile", 64)
    large, middle, small = ran.lines
    assert (ran.code, large["error"]["code"]) == (1, "invalid_parameter")
    assert "at most 64 may" in large["error"]["detail"]
    assert len(middle["boxes"]) > len(small["boxes"]) == 2
    [overlapping] = detect(tmp_path / "middle.png", "--json", "--tile", 64, "--tile-overlap", 0.5).lines
    assert len(overlapping["boxes"]) > len(middle["boxes"])


# -- refusals ------------------------------------------------------------------------------------------------


def test_a_refusal_of_every_image_ends_the_run(start: Callable[..., Program], folder: Path) -> None:
    program = start(api_keys="secret")
    program.logged("ready")
    detect: Any = ("detect", folder, "--url", f"http://127.0.0.1:{program.port}")
    refused = rcnn(*detect)
    wrong = rcnn(*detect, "--api-key", "secret", "--classes", "horse")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "(401 unauthorized)" in refused.err
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    assert "horse" in wrong.err
    assert rcnn(*detect[:1], folder / "a.png", *detect[2:], "--api-key", "secret").code == 0


def test_no_server_at_the_url(folder: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    ran = rcnn("detect", folder, "--url", url)
    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(rf"rcnn: no answer from {url}/health: .*\n", ran.err)
    wrong = rcnn("detect", folder, "--url", "127.0.0.1:8000")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--url: '127.0.0.1:8000' is no http URL" in wrong.err


def test_the_demo_model_of_a_service_is_named(image: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200 if handler.path == "/health" else 400)
        handler.end_headers()
        handler.wfile.write(json.dumps({"model": "shapes", "hint": "it knows shapes"}).encode())

    with http_server(answer) as port:
        ran = rcnn("detect", image, "--url", f"http://127.0.0.1:{port}")
    assert "rcnn: shapes: it knows shapes\n" in ran.err


# -- tables, drawings, the bar -------------------------------------------------------------------------------


def test_a_table_shows_objects_and_ends_with_the_totals(detect: Detect, image: Path, folder: Path) -> None:
    ran = detect(image)
    head, columns, *rows = [line.split() for line in ran.out.splitlines()]
    assert ran.code == 0
    assert head[:5] == [str(image), "64x48", "·", "2", "objects"]
    assert columns == ["name", "score", "x1", "y1", "x2", "y2"]
    assert rows == [
        ["Square", "0.938", "8.0", "12.0", "32.0", "36.0"],
        ["disc", "0.750", "16.0", "12.0", "64.0", "24.0"],
    ]
    none = detect(image, "--score-threshold", 1)
    assert re.fullmatch(r".*image\.png  64x48 · 0 objects · \d+ ms\n", none.out)
    assert detect(folder).out.splitlines()[-1] == "3 images · 4 objects · 1 failed"


def test_drawings_are_saved_and_overwrite_no_image(detect: Detect, folder: Path, tmp_path: Path) -> None:
    (folder / "b.png").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert detect(folder, "--save", folder).code == 0
    drawn = sorted(path.name for path in folder.iterdir() if path.is_file() and path not in before)
    assert drawn == ["a-2.png", "a-3.png"]
    assert all(path.read_bytes() == content for path, content in before.items())
    with pillow.open(folder / "a-2.png") as drawing, pillow.open(folder / "a.png") as original:
        assert (drawing.format, drawing.width / drawing.height) == ("PNG", original.width / original.height)
        small = np.asarray(drawing.convert("RGB").resize(original.size, pillow.Resampling.NEAREST), np.int64)
        difference = np.abs(small - np.asarray(original.convert("RGB"), np.int64)).sum(axis=2) > 0
    assert difference[12:36, 8:64].mean() > 0.05
    assert not difference[40:, :].any()
    assert detect(folder / "a.png", "--save", tmp_path / "new" / "drawings").code == 0
    assert [path.name for path in (tmp_path / "new" / "drawings").iterdir()] == ["a.png"]


def on_a_terminal(*arguments: str, out_too: bool) -> tuple[str, str]:
    """What `rcnn` writes to a terminal, and to stdout where that is not the terminal but a pipe."""
    ours, theirs = pty.openpty()
    stdout = theirs if out_too else subprocess.PIPE
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*RCNN, *arguments], cwd=ROOT, env=environment, stdin=theirs, stdout=stdout, stderr=theirs
    )
    os.close(theirs)
    out, _ = process.communicate(timeout=60)
    seen = io.BytesIO()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(65536):
                seen.write(chunk)
        except OSError:  # the other end of the terminal is closed
            pass
    assert process.returncode == 0, seen.getvalue().decode()
    return seen.getvalue().decode(), (out or b"").decode()


def test_a_bar_shows_on_a_terminal_and_stays_out_of_a_pipe(url: str, folder: Path) -> None:
    (folder / "b.png").unlink()
    terminal, piped = on_a_terminal("detect", str(folder), "--url", url, "--json", out_too=False)
    assert "Detecting" in terminal
    assert "2/2" in terminal
    assert piped.count('"model": "fake"') == len(piped.splitlines()) == 2
    both, _ = on_a_terminal("detect", str(folder), "--url", url, "--json", out_too=True)
    assert "Detecting" in both
    assert both.count('"model": "fake"') == 2
    single, _ = on_a_terminal("detect", str(folder / "a.png"), "--url", url, out_too=True)
    assert "Detecting" not in single
