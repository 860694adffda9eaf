"""`rcnn detect`: the formats it writes, options that exclude one another, and Ctrl-C in a real process."""

import csv
import io
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pycocotools.coco import COCO

from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.rcnn import RCNN, Ran
from tests.support.served import ROOT

Detect = Callable[..., Ran]


def test_json_is_an_array_with_the_errors(detect: Detect, folder: Path) -> None:
    ran = detect(folder, "--format", "json")
    assert ran.code == 1
    assert [Path(each["file"]).name for each in ran.json] == ["a.png", "b.png", "a.JPG"]
    assert ran.json[0]["boxes"] == [[8.0, 12.0, 32.0, 36.0], [16.0, 12.0, 64.0, 24.0]]
    assert ran.json[1]["error"]["code"] == "invalid_image"
    assert "(400 invalid_image)" in ran.err
    assert detect(folder / "a.png", "--format", "json").json[0]["model"] == "fake"


def test_coco_is_one_dataset_that_pycocotools_reads(
    detect: Detect, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    ran = detect(folder, "--format", "coco", "--out", file)
    assert (ran.code, ran.out) == (1, "")
    truth = COCO(str(file))
    results = truth.loadRes(json.loads(file.read_text())["annotations"])
    names = [Path(image["file_name"]).name for image in truth.loadImgs(truth.getImgIds())]
    assert names == ["a.png", "a.JPG"]
    for reader in (truth, results):
        boxes = [[each["bbox"] for each in reader.imgToAnns[image]] for image in (1, 2)]
        assert boxes == [[[8, 12, 24, 24], [16, 12, 48, 12]], [[4, 12, 12, 24], [8, 12, 24, 12]]]
    assert [category["name"] for category in truth.loadCats(truth.getCatIds())] == ["Square", "disc", "kite"]
    assert len(set(truth.getAnnIds())) == 4


def test_yolo_and_voc_are_a_file_an_image(detect: Detect, folder: Path, tmp_path: Path) -> None:
    ran = detect(folder, "--format", "yolo", "--out", tmp_path / "labels")
    files = {path.name: path.read_text() for path in (tmp_path / "labels").iterdir()}
    first = "0 0.3125000 0.5000000 0.3750000 0.5000000\n1 0.6250000 0.3750000 0.7500000 0.2500000\n"
    assert (ran.code, ran.out) == (1, "")
    assert files == {"classes.txt": "Square\ndisc\nkite\n", "a.txt": first, "a-2.txt": first}
    assert detect(folder / "a.png", "--format", "voc", "--out", tmp_path / "xml").code == 0
    document = ElementTree.parse(tmp_path / "xml" / "a.xml").getroot()  # noqa: S314  # of our own making
    corners = [[int(corner.text or 0) for corner in box] for box in document.iter("bndbox")]
    assert corners == [[8, 12, 32, 36], [16, 12, 64, 24]]
    assert document.findtext("filename") == str(folder / "a.png")


def test_csv_label_studio_and_geojson_are_one_document(detect: Detect, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(detect(folder, "--format", "csv").out)))
    assert [(Path(row["image"]).name, row["name"], row["xmax"]) for row in rows] == [
        ("a.png", "Square", "32.0"),
        ("a.png", "disc", "64.0"),
        ("a.JPG", "Square", "16.0"),
        ("a.JPG", "disc", "32.0"),
    ]
    tasks = detect(folder, "--format", "labelstudio").json
    assert [Path(task["data"]["image"]).name for task in tasks] == ["a.png", "a.JPG"]
    [prediction] = tasks[1]["predictions"]
    assert [each["value"]["rectanglelabels"] for each in prediction["result"]] == [["Square"], ["disc"]]
    features = detect(folder, "--format", "geojson").json["features"]
    assert [Path(each["properties"]["image"]).name for each in features] == ["a.png"] * 2 + ["a.JPG"] * 2
    assert features[0]["geometry"]["coordinates"][0][2] == [32.0, 36.0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--format", "yolo"), "name a folder for them with --out"),
        (("--format", "voc"), "name a folder for them with --out"),
        (("--out", "x"), "--out is for the other formats"),
        (("--json", "--format", "csv"), "leave one out"),
        (("--format", "xls"), "geojson"),
        (("--watch",), "is no folder"),
        (("--every", "0"), "--every"),
        (("--in-flight", "0"), "--in-flight"),
        (("--tile", "12"), "--tile 12: must be auto or a whole number from 64 to 8192"),
        (("--tile-overlap", "0.2"), "--tile-overlap is for --tile"),
        (("--tile", "auto", "--tile-overlap", "0.6"), "--tile-overlap"),
        (("--score-threshold", "1.1"), "--score-threshold"),
        (("--nms-threshold", "-1"), "--nms-threshold"),
        (("--max-detections", "0"), "--max-detections"),
        (("--size", "63"), "--size"),
        (("--size", "8193"), "--size"),
    ],
)
def test_options_out_of_range_or_contradictory_are_wrong_usage(
    detect: Detect, image: Path, flags: tuple[str, ...], message: str
) -> None:
    ran = detect(image, *flags)
    assert (ran.code, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("option", "flags"),
    [("--out", ("--format", "csv")), ("--out", ("--format", "yolo")), ("--save", ())],
)
def test_a_path_that_cannot_be_written_is_1(
    detect: Detect, image: Path, option: str, flags: tuple[str, ...]
) -> None:
    ran = detect(image, *flags, option, image / "inside")
    assert (ran.code, ran.out) == (1, "")
    assert f"{option} {image / 'inside'}" in ran.err


# -- Ctrl-C --------------------------------------------------------------------------------------------------


class Running:
    """`rcnn detect` as a process of its own, whose lines come as it prints them."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*RCNN, "detect", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
def running() -> Iterator[Callable[..., Running]]:
    """Start `rcnn detect` with these arguments."""
    started: list[Running] = []

    def start(*arguments: object) -> Running:
        started.append(Running(*(str(argument) for argument in arguments)))
        return started[-1]

    yield start
    for process in started:
        process.close()


def test_a_watched_folder_is_detected_in_until_ctrl_c(
    running: Callable[..., Running], url: str, tmp_path: Path
) -> None:
    folder, drawn = tmp_path / "in", tmp_path / "drawn"
    folder.mkdir()
    (folder / "first.png").write_bytes(picture(64, 48))
    watching = running(folder, "--watch", "--json", "--save", drawn, "--url", url)
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


def test_ctrl_c_writes_what_was_found(running: Callable[..., Running], url: str, tmp_path: Path) -> None:
    folder, file = tmp_path / "in", tmp_path / "found.json"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "a.png").write_bytes(picture())
    watching = running(folder, "--watch", "--format", "coco", "--out", file, "--url", url)
    assert watching.process.stderr is not None
    assert "bad.png" in watching.process.stderr.readline()  # it comes after a.png
    code, _, err = watching.interrupt()
    assert (code, err) == (130, "")
    assert len(json.loads(file.read_text())["annotations"]) == 2


def test_a_watched_folder_is_not_where_drawings_go(detect: Detect, tmp_path: Path) -> None:
    ran = detect(tmp_path, "--watch", "--save", tmp_path / "drawn")
    assert (ran.code, ran.out) == (2, "")
    assert "save them elsewhere" in ran.err


def test_ctrl_c_ends_pauses_between_tries(
    running: Callable[..., Running], start: Callable[..., Program], tmp_path: Path
) -> None:
    """The service loads for ever: it refuses every image with Retry-After."""
    program = start("--loading")
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(picture())
    detecting = running(tmp_path, "--json", "--url", f"http://127.0.0.1:{program.port}")
    program.logged("POST /detect.* 503")
    code, out, err = detecting.interrupt()
    assert (code, out) == (130, "")
    assert "Traceback" not in err
