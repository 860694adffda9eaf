"""The comparison of an imported checkpoint with its library: by numbers, and once with a real server."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from bench import parity
from models.images.decoder import Limits, decode
from tests.support.data.networks import random_network, torchvision_detections
from tests.support.fakes import picture


def found(*rows: tuple[float, float, int]) -> parity.Found:
    """Detections of (left side in px, score, class)."""
    boxes = [[left, 0.0, left + 10, 10.0] for left, _, _ in rows]
    scores, classes = [score for _, score, _ in rows], [one for _, _, one in rows]
    return parity.Found.of({"boxes": boxes, "scores": scores}, classes)


LIBRARY = found((0, 0.9, 0), (50, 0.8, 1), (51, 0.8, 1))


@pytest.mark.parametrize(
    ("ours", "tolerance", "matched", "passes"),
    [
        pytest.param(LIBRARY, parity.STRICT, 3, True, id="equal"),
        pytest.param(found((51, 0.8, 1), (0, 0.9, 0), (50, 0.8, 1)), parity.STRICT, 3, True, id="order"),
        pytest.param(found((0.04, 0.9, 0), (50, 0.8, 1), (51, 0.8, 1)), parity.STRICT, 3, True, id="near"),
        pytest.param(found((0.06, 0.9, 0), (50, 0.8, 1), (51, 0.8, 1)), parity.STRICT, 2, False, id="px"),
        pytest.param(found((0, 0.902, 0), (50, 0.8, 1), (51, 0.8, 1)), parity.STRICT, 2, False, id="score"),
        pytest.param(found((0, 0.9, 0), (50, 0.8, 0), (51, 0.8, 1)), parity.STRICT, 2, False, id="class"),
        pytest.param(found((0, 0.9, 0), (50, 0.8, 1)), parity.RESIZED, 2, False, id="one for two"),
        pytest.param(found(*[(0, 0.9, 0)] * 4), parity.RESIZED, 1, False, id="too many"),
        pytest.param(found(), parity.STRICT, 0, False, id="nothing"),
    ],
)
def test_detections_match_one_to_one(
    ours: parity.Found, tolerance: parity.Tolerance, matched: int, passes: bool
) -> None:
    row = parity.compare(LIBRARY, ours, tolerance)
    assert (row["matched"], row["passes"], len(row["differing"])) == (matched, passes, 3 - matched)


def test_what_differs_is_shown_with_what_is_nearest() -> None:
    [line] = parity.compare(LIBRARY, found((0.5, 0.9, 0), (50, 0.8, 1), (51, 0.8, 1)), parity.STRICT)[
        "differing"
    ]
    assert line.endswith("the nearest of ours is 0.5000 px and 0.00000 away")


@pytest.mark.bench
@pytest.mark.process
def test_a_checkpoint_is_imported_served_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = random_network()
    network.transform.min_size, network.transform.max_size = (128,), 224
    network.roi_heads.score_thresh = 0.3
    arguments = argparse.Namespace(min_size=128, max_size=224)
    torch.save({"model": network.state_dict(), "args": arguments}, tmp_path / "checkpoint.pth")
    (tmp_path / "images").mkdir()
    answers = {}
    for name, shift in (("exact-right.png", 0.0), ("resized-wrong.png", 3.0)):
        (tmp_path / "images" / name).write_bytes(picture())
        right = torchvision_detections(network, decode(picture(), Limits(10**6)))
        classes = (right.labels - 1).tolist()
        boxes = (right.boxes + shift).tolist()
        answers[name] = {"boxes": boxes, "scores": right.scores.tolist(), "classes": classes}
    (tmp_path / "expected.json").write_text(json.dumps(answers))
    out = tmp_path / "results" / "rows.json"
    out.parent.mkdir()
    monkeypatch.setattr("sys.argv", ["parity", str(tmp_path), "--threads", "1", "--json", str(out)])
    with pytest.raises(SystemExit, match="1"):
        parity.main()
    right_row, wrong_row = json.loads(out.read_text())["rows"]
    assert right_row["matched"] == right_row["expected"] == right_row["found"] > 5
    assert (right_row["passes"], wrong_row["passes"]) == (True, False)
    printed = capsys.readouterr().out
    assert "checkpoint.pth" in printed
    assert "the nearest of ours is 3.0000 px" in printed
