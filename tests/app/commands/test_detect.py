"""`rcnn detect`: where images come from, what is written of them, how it ends; real processes for signals."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from PIL import Image as pillow
from pycocotools.coco import COCO

from app import cli
from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.served import ROOT

RCNN = (sys.executable, "-c", "from app.cli import main; main()", "detect")
SQUARE, DISC = (8.0, 12.0, 32.0, 36.0), (16.0, 12.0, 64.0, 24.0)  # in a picture of 64 x 48


@dataclass(frozen=True)
class Ran:
    """What a call of `rcnn detect` left: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


class Detect:
    """Calls `rcnn detect` at a running service, in this process."""

    def __init__(self, program: Program) -> None:
        self.url = f"http://127.0.0.1:{program.port}"

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Ran:
        out, err = io.StringIO(), io.StringIO()
        argv = ["rcnn", "detect", *(str(argument) for argument in arguments), "--url", self.url]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", argv)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                cli.main()
        return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RCNN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def detect(program: Program) -> Detect:
    return Detect(program)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them in a folder of its own, with a broken one between them."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(64, 48))
    (folder / "b.png").write_bytes(b"no image")
    (folder / "deep" / "a.jpg").write_bytes(picture(32, 48, "JPEG"))
    return folder


def video(path: Path, frames: int = 5) -> Path:
    """A film of 64 x 48 pixels at 10 frames a second, each frame of one grey, lighter and lighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# -- where images come from ----------------------------------------------------------------------------------


def test_stdin_is_an_image(detect: Detect) -> None:
    ran = detect("-", "--json", stdin=picture())
    assert (ran.code, ran.err) == (0, "")
    assert [(line["file"], line["names"]) for line in ran.lines] == [("-", ["Square", "disc"])]
    empty = detect("-", "--json")
    assert empty.code == 1
    assert empty.lines[0]["error"]["code"] == "invalid_image"


def test_patterns_reach_into_folders(detect: Detect, folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    ran = detect(f"{folder}/**/a.*", f"{folder}/n*", "--json")
    found = [Path(line["file"]).relative_to(folder).as_posix() for line in ran.lines]
    assert (ran.code, found) == (0, ["a.png", "deep/a.jpg"])
    none = detect(f"{folder}/*.gif")
    assert (none.code, none.out) == (2, "")
    assert "no image in" in none.err


def test_a_file_with_the_letters_of_a_pattern_is_a_file(detect: Detect, tmp_path: Path) -> None:
    odd = tmp_path / "[a]*.png"
    odd.write_bytes(picture())
    assert [line["file"] for line in detect(odd, "--json").lines] == [str(odd)]


@pytest.mark.parametrize("missing", ["none.png", "camera:x", "camera:"])
def test_what_is_not_there_is_wrong_usage(detect: Detect, missing: str) -> None:
    ran = detect(missing)
    assert (ran.code, ran.out) == (2, "")
    assert "does not exist" in ran.err


def test_each_frame_of_a_video_has_its_number_and_time(detect: Detect, tmp_path: Path) -> None:
    film = video(tmp_path / "film.mp4")
    ran = detect(film, "--json", "--save", tmp_path / "drawn", "--every", 2)
    assert (ran.code, ran.err) == (0, "")
    assert [(line["file"], line["frame"], line["seconds"]) for line in ran.lines] == [
        (str(film), 0, 0.0),
        (str(film), 2, 0.2),
        (str(film), 4, 0.4),
    ]
    assert {tuple(line["boxes"][0]) for line in ran.lines} == {SQUARE}
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["film-000000.png", "film-000002.png", "film-000004.png"]
    greys = []
    for path in drawn:
        with pillow.open(path) as opened:
            greys.append(np.asarray(opened.convert("L"))[-20:, -20:].mean())
    assert greys == pytest.approx([0, 80, 160], abs=6)


def test_a_broken_video_loses_no_other(detect: Detect, tmp_path: Path) -> None:
    broken, silent = tmp_path / "broken.mp4", tmp_path / "cut.avi"
    broken.write_bytes(b"no film")
    whole = video(tmp_path / "film.avi", 3)
    silent.write_bytes(whole.read_bytes()[:40])
    ran = detect(broken, whole, silent, "--json")
    assert ran.code == 1
    assert ["error" in line for line in ran.lines] == [True, False, False, False, True]
    assert f"rcnn: {broken}: not a video of an allowed format" in ran.err


def test_a_service_is_asked_for_tiles(start: Any, tmp_path: Path) -> None:
    program = start()
    program.logged("ready")
    detect = Detect(program)
    for name, size in (("large", (600, 600)), ("middle", (120, 100)), ("small", (64, 48))):
        (tmp_path / f"{name}.png").write_bytes(picture(*size))
    ran = detect(tmp_path, "--json", "--tile", 64)
    large, middle, small = ran.lines
    assert (ran.code, large["error"]["code"]) == (1, "invalid_parameter")
    assert "at most 64 may" in large["error"]["detail"]
    assert len(middle["boxes"]) > len(small["boxes"]) == 2
    [overlapping] = detect(tmp_path / "middle.png", "--json", "--tile", 64, "--tile-overlap", 0.5).lines
    assert len(overlapping["boxes"]) > len(middle["boxes"])


def test_a_camera_that_is_not_there_is_told(detect: Detect, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    ran = detect("camera:973", tmp_path, "--json")
    assert ran.code == 1
    assert "camera:973: the camera /dev/video973 cannot be opened" in ran.err
    assert [line["file"] for line in ran.lines] == ["camera:973", str(tmp_path / "a.png")]


# -- what is written -----------------------------------------------------------------------------------------


def test_json_is_an_array_with_the_errors(detect: Detect, folder: Path) -> None:
    ran = detect(folder, "--format", "json")
    answers = json.loads(ran.out)
    assert ran.code == 1
    assert [Path(one["file"]).name for one in answers] == ["a.png", "b.png", "a.jpg"]
    assert answers[0]["boxes"] == [list(SQUARE), list(DISC)]
    assert answers[1]["error"]["code"] == "invalid_image"
    assert json.loads(detect(folder / "a.png", "--format", "json").out)[0]["model"] == "fake"


def test_coco_is_one_dataset_that_pycocotools_reads(
    detect: Detect, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    ran = detect(folder, "--format", "coco", "--out", file)
    assert (ran.code, ran.out) == (1, "")
    truth = COCO(str(file))
    results = truth.loadRes(json.loads(file.read_text())["annotations"])
    names = [Path(image["file_name"]).name for image in truth.loadImgs(truth.getImgIds())]
    assert names == ["a.png", "a.jpg"]
    for reader in (truth, results):
        boxes = [[one["bbox"] for one in reader.imgToAnns[image]] for image in (1, 2)]
        assert boxes == [[[8, 12, 24, 24], [16, 12, 48, 12]], [[4, 12, 12, 24], [8, 12, 24, 12]]]
    assert [category["name"] for category in truth.loadCats(truth.getCatIds())] == ["Square", "disc", "kite"]
    assert len(set(truth.getAnnIds())) == 4


def test_yolo_is_a_file_an_image_and_the_names(detect: Detect, folder: Path, tmp_path: Path) -> None:
    ran = detect(folder, "--format", "yolo", "--out", tmp_path / "labels")
    files = {path.name: path.read_text() for path in (tmp_path / "labels").iterdir()}
    first = "0 0.3125000 0.5000000 0.3750000 0.5000000\n1 0.6250000 0.3750000 0.7500000 0.2500000\n"
    assert (ran.code, ran.out) == (1, "")
    assert files == {"classes.txt": "Square\ndisc\nkite\n", "a.txt": first, "a-2.txt": first}


def test_voc_is_a_file_an_image(detect: Detect, folder: Path, tmp_path: Path) -> None:
    assert detect(folder / "a.png", "--format", "voc", "--out", tmp_path / "xml").code == 0
    document = ElementTree.parse(tmp_path / "xml" / "a.xml").getroot()  # noqa: S314  # of our own making
    corners = [[int(one.text or 0) for one in box] for box in document.iter("bndbox")]
    assert corners == [[8, 12, 32, 36], [16, 12, 64, 24]]
    assert document.findtext("filename") == str(folder / "a.png")


def test_csv_has_one_header(detect: Detect, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(detect(folder, "--format", "csv").out)))
    assert [(Path(row["image"]).name, row["name"], row["xmax"]) for row in rows] == [
        ("a.png", "Square", "32.0"),
        ("a.png", "disc", "64.0"),
        ("a.jpg", "Square", "16.0"),
        ("a.jpg", "disc", "32.0"),
    ]


def test_label_studio_gets_a_list_of_tasks(detect: Detect, folder: Path) -> None:
    tasks = json.loads(detect(folder, "--format", "labelstudio").out)
    assert [Path(task["data"]["image"]).name for task in tasks] == ["a.png", "a.jpg"]
    [prediction] = tasks[1]["predictions"]
    assert [one["value"]["rectanglelabels"] for one in prediction["result"]] == [["Square"], ["disc"]]


def test_geojson_says_of_which_image_a_feature_is(detect: Detect, folder: Path) -> None:
    features = json.loads(detect(folder, "--format", "geojson").out)["features"]
    assert [Path(one["properties"]["image"]).name for one in features] == ["a.png"] * 2 + ["a.jpg"] * 2
    assert features[0]["geometry"]["coordinates"][0][2] == [32.0, 36.0]


def test_tables_end_with_the_sum(detect: Detect, folder: Path) -> None:
    ran = detect(folder)
    assert ran.out.splitlines()[-1] == "3 images · 4 objects · 1 failed"
    assert "images" not in detect(folder / "a.png").out.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--format", "yolo"), "name a folder for them with --out"),
        (("--format", "voc"), "name a folder for them with --out"),
        (("--out", "x"), "--out is for the other formats"),
        (("--json", "--format", "csv"), "leave one out"),
        (("--format", "xls"), "geojson"),
        (("--watch",), "is no folder"),
        (("--every", "0"), "--every"),
        (("--in-flight", "0"), "--in-flight"),
        (("--tile", "12"), "--tile 12: it must be auto or a whole number from 64 to 8192"),
        (("--tile-overlap", "0.2"), "--tile-overlap is for --tile"),
        (("--tile", "auto", "--tile-overlap", "0.6"), "--tile-overlap"),
    ],
)
def test_flags_that_do_not_fit_are_wrong_usage(
    detect: Detect, folder: Path, flags: tuple[str, ...], told: str
) -> None:
    ran = detect(folder / "a.png", *flags)
    assert (ran.code, ran.out) == (2, "")
    assert told in " ".join(ran.err.split())


def test_a_place_that_cannot_be_written_is_told(detect: Detect, folder: Path) -> None:
    for format, name in (("csv", "a.png/x.csv"), ("yolo", "a.png/labels")):
        ran = detect(folder / "a.png", "--format", format, "--out", folder / name)
        assert (ran.code, ran.out) == (1, "")
        assert f"--out {folder / name}" in ran.err


def test_many_at_a_time_come_in_order(detect: Detect, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.png").write_bytes(picture(32 + number, 32))
    ran = detect(tmp_path, "--json", "--in-flight", 8, "--save", tmp_path / "drawn")
    assert [line["image"]["width"] for line in ran.lines] == list(range(32, 72))
    assert (ran.code, len(list((tmp_path / "drawn").iterdir()))) == (0, 40)


# -- how it ends ---------------------------------------------------------------------------------------------


class Running:
    """`rcnn detect` as a process of its own, whose lines come as it prints them."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*RCNN, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._timer = threading.Timer(60, self.process.kill)  # a line that does not come fails the test
        self._timer.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def interrupt(self) -> tuple[int, str, str]:
        """Ctrl-C; the exit code, and the rest of what it printed."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def close(self) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def running(detect: Detect) -> Iterator[Any]:
    """Start `rcnn detect` with these arguments, at the service."""
    started: list[Running] = []

    def start(*arguments: object) -> Running:
        started.append(Running(*(str(argument) for argument in arguments), "--url", detect.url))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_watched_folder_tells_what_comes_until_ctrl_c(running: Any, tmp_path: Path) -> None:
    folder, drawn = tmp_path / "in", tmp_path / "drawn"
    folder.mkdir()
    (folder / "first.png").write_bytes(picture(64, 48))
    watching = running(folder, "--watch", "--json", "--save", drawn)
    assert json.loads(watching.line())["file"] == str(folder / "first.png")
    (folder / "bad.png").write_bytes(b"no image")
    assert json.loads(watching.line())["error"]["code"] == "invalid_image"
    (folder / "notes.txt").write_text("no image")
    (folder / "second.png").write_bytes(picture(32, 48))
    assert json.loads(watching.line())["image"] == {"width": 32, "height": 48}
    (folder / "first.png").write_bytes(picture(96, 48))
    assert json.loads(watching.line())["image"] == {"width": 96, "height": 48}
    code, out, err = watching.interrupt()
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert sorted(path.name for path in drawn.iterdir()) == ["first.png", "second.png"]


def test_ctrl_c_writes_what_was_found(running: Any, tmp_path: Path) -> None:
    folder, file = tmp_path / "in", tmp_path / "found.json"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "a.png").write_bytes(picture())
    watching = running(folder, "--watch", "--format", "coco", "--out", file)
    assert watching.process.stderr is not None
    assert "bad.png" in watching.process.stderr.readline()  # it comes after a.png
    code, _, err = watching.interrupt()
    assert (code, err) == (130, "")
    assert len(json.loads(file.read_text())["annotations"]) == 2


def test_a_watched_folder_is_not_where_drawings_go(detect: Detect, tmp_path: Path) -> None:
    ran = detect(tmp_path, "--watch", "--save", tmp_path / "drawn")
    assert (ran.code, ran.out) == (2, "")
    assert "save them elsewhere" in ran.err


def test_ctrl_c_at_a_full_service_does_not_wait(start: Any, tmp_path: Path) -> None:
    """The service loads for ever: every image is told to come again, and nobody waits for that."""
    program = start("--loading")
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(picture())
    running = Running(str(tmp_path), "--json", "--url", f"http://127.0.0.1:{program.port}")
    try:
        program.logged("POST /detect.* 503")
        code, out, err = running.interrupt()
        assert (code, out) == (130, "")
        assert "Traceback" not in err
    finally:
        running.close()
