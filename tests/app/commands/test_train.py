"""`rcnn train` on a few small images: a servable model, a report, an exact resume, clear refusals."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file

from models.datasets import read_dataset
from models.detector import DetectorSpec, Job, load_detector
from models.images.decoder import Limits, decode
from models.options import Options
from models.training.validation import EQUAL, NMS_THRESHOLDS, assess_network
from models.zoo.cards import read_card
from models.zoo.loading import load_network
from tests.support.data.annotated import write_small_coco
from tests.support.rcnn import RCNN, Ran, rcnn
from tests.support.served import ROOT, eventually

pytestmark = pytest.mark.network

EPOCHS = 2
SMALL = ("--batch-size", "2", "--min-size", "96", "--threads", "1", "--device", "cpu")


def train(data: Path, out: Path, *more: str, epochs: int = 1) -> Ran:
    return rcnn("train", data, "--out", out, "--epochs", epochs, *SMALL, *more)


def log(out: Path) -> list[dict[str, float]]:
    """The steps of a run, which are numbered from 1 without a gap."""
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1))
    return entries


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_small_coco(root, "train", 31, 4)
    write_small_coco(root, "val", 32, 2)
    return root


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "Shapes run"
    ran = train(data, out, "--mosaic", "0.5", epochs=EPOCHS)
    assert ran.code == 0, ran.err
    assert ran.out.strip() == str(out / "model.toml")
    assert "4 images" in ran.err
    return out


def test_the_folder_is_a_model_that_detects(trained: Path, data: Path) -> None:
    card = read_card(trained / "model.toml")
    assert card.name == "shapes-run"
    assert card.labels == ("background", "even", "odd")
    assert card.min_size == 96
    assert card.training is not None
    assert card.training["command"].startswith("rcnn ")
    assert 0 <= card.training["ap"] <= 1
    detector = load_detector(DetectorSpec(model=str(trained / "model.toml"), cache_dir=trained, device="cpu"))
    image = decode((data / "val" / "0.png").read_bytes(), Limits(10**6))
    [detections] = detector.detect([Job(detector.prepare(image), Options(0.0, 0.5, 5))])
    assert len(detections) == 5


def test_thresholds_suit_the_validation_images(trained: Path, data: Path) -> None:
    """No other threshold that can be chosen has a better AP50; the card has the value that was assessed."""
    loaded = load_network(str(trained / "model.toml"), None, trained)
    images = read_dataset(data, "val", labels=loaded.card.labels).images
    assert loaded.card.nms_threshold in NMS_THRESHOLDS
    assessed = [
        assess_network(loaded.network, loaded.card.model_copy(update={"nms_threshold": threshold}), images)
        for threshold in NMS_THRESHOLDS
    ]
    own = assess_network(loaded.network, loaded.card, images).numbers["AP50"]
    assert own >= max(each.numbers["AP50"] for each in assessed) - 2 * EQUAL
    assert loaded.card.training is not None
    assert loaded.card.training["ap50"] == pytest.approx(own, abs=2e-3), "the weights were halved after it"


def test_the_report_shows_losses_numbers_and_examples(trained: Path) -> None:
    report = (trained / "report.md").read_text()
    assert "| even |" in report
    for name in re.findall(r"!\[.*?\]\((.*?)\)", report):
        picture = np.asarray(PillowImage.open(trained / name).convert("L"))
        assert picture.std() > 5, f"{name} is blank"
    assert sum("score" in entry for entry in log(trained)) == EPOCHS, "a validation an epoch"


def test_ctrl_c_and_the_same_command_again_give_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole" / "run", tmp_path / "broken" / "run"
    assert train(data, whole, epochs=EPOCHS).code == 0
    command = [*RCNN, "train", str(data), "--out", str(broken), "--epochs", str(EPOCHS), *SMALL]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        checkpoint = broken / "checkpoint.pt"
        asyncio.run(eventually(lambda: checkpoint.exists() or process.poll() is not None, "a checkpoint"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "from the last checkpoint" in err
    card = read_card(broken / "model.toml")
    assert card.training is not None
    assert "steps" in card.training["unfinished"]
    assert f"the best model so far: {broken / 'model.toml'}" in err
    load_detector(DetectorSpec(model=str(broken / "model.toml"), cache_dir=tmp_path, device="cpu"))
    assert train(data, broken, "--resume", epochs=EPOCHS).code == 0
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (broken, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_four_steps_of_the_paper_make_a_model_too(data: Path, tmp_path: Path) -> None:
    """The data are named by the option here."""
    out = tmp_path / "run"
    schedule = ("--schedule", "alternating", "--epochs", 1)
    ran = rcnn("train", "--data", data, "--out", out, *SMALL, *schedule)
    assert ran.code == 0, ran.err
    assert read_card(out / "model.toml").name == "run"
    assert log(out)
    assert (out / "curves.png").exists()


def test_two_processes_train_one_model(data: Path, tmp_path: Path) -> None:
    """As torchrun starts them on a machine with two GPUs; here on the CPU, with gloo."""
    program, out = tmp_path / "program.py", tmp_path / "run"
    program.write_text("from app.cli import main\nif __name__ == '__main__':\n    main()\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(program), "train", str(data), "--out", str(out), *SMALL, "--epochs", "1"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "model.toml"), "one process prints for all"
    assert sum("score" in entry for entry in log(out)) == 1
    load_detector(DetectorSpec(model=str(out / "model.toml"), cache_dir=tmp_path, device="cpu"))


def test_a_model_is_a_start_for_other_classes(data: Path, tmp_path: Path) -> None:
    ran = train(data, tmp_path / "run", "--from", "shapes", "--val-split", "none")
    assert ran.code == 0, ran.err
    card = read_card(tmp_path / "run" / "model.toml")
    assert card.training is not None
    assert card.training["evaluated_on"] == "the training images themselves"
    ours = load_network(str(tmp_path / "run" / "model.toml"), None, tmp_path).network.state_dict()
    theirs = load_network("shapes", None, tmp_path).network.state_dict()
    frozen = [name for name in ours if "running_mean" in name]
    assert frozen
    assert all(torch.equal(ours[name], theirs[name]) for name in frozen), "norms stay frozen: few images"
    assert not torch.equal(ours["rpn.head.cls_logits.weight"], theirs["rpn.head.cls_logits.weight"])


def test_another_recipe_does_not_continue_a_run(trained: Path, data: Path) -> None:
    refused = train(data, trained, "--learning-rate", "0.01", "--mosaic", "0.5", epochs=EPOCHS)
    assert refused.code == 2
    assert "other options: --learning-rate was 0.001, is 0.01. Repeat it" in refused.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--from", "nothing-like-it"], 2, "shapes"),
        (["--from", "imagenet"], 2, "small has no ImageNet weights"),
        (["--from", "coco-r50-fpn", "--architecture", "small"], 2, "--architecture resnet50_fpn"),
        (["--architecture", "resnet9000"], 2, "resnet50_fpn"),
        (["--device", "cuda:99"], 2, "cuda:99"),
        (["--log", "wandb"], 2, "must be one of: csv, tensorboard"),
        (["--train-split", "tomorrow"], 1, "tomorrow"),
        (["--min-size", "200", "--max-size", "100"], 2, "--max-size 100"),
        (["--resume"], 2, "holds no checkpoint"),
        (["--data", "."], 2, "name the folder of images once"),
        (["--float16"], 2, "--float16 is for a GPU"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(
    data: Path, tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    refused = train(data, tmp_path / "run", *options)
    assert (refused.code, refused.out) == (code, "")
    assert message in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "run").exists()
