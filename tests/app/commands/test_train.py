"""`rcnn train` on a small folder: a servable model, a report, an exact resume, clear refusals."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
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
from models.shapes.scenes import draw_scene
from models.training.augment import Augmentation
from models.training.batches import BatchPlan, FolderBatches, batches_per_epoch
from models.training.distributed import ProcessRank
from models.training.validation import EQUAL, NMS_THRESHOLDS, assess_network
from models.zoo.cards import read_card
from models.zoo.loading import load_network
from tests.support.served import ROOT


def write_coco(root: Path, split: str, seed: int, count: int) -> None:
    """`count` small scenes in COCO form; of its eight classes only the first two are named."""
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for index in range(count):
        scene = draw_scene(seed, index)
        height, width = (120, 160) if index % 3 else (160, 120)
        PillowImage.fromarray(scene.pixels).resize((width, height)).save(root / split / f"{index}.png")
        ratio = np.array([width / scene.pixels.shape[1], height / scene.pixels.shape[0]] * 2)
        images.append({"id": index, "file_name": f"{index}.png", "width": width, "height": height})
        for box, label in zip(scene.boxes * ratio, scene.labels, strict=True):
            x1, y1, x2, y2 = box.tolist()
            row = {"id": len(annotations) + 1, "image_id": index, "category_id": 1 + int(label) % 2}
            annotations.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1.0, "iscrowd": 0})
    names = [{"id": 1, "name": "even"}, {"id": 2, "name": "odd"}]
    document = {"images": images, "annotations": annotations, "categories": names}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_coco(root, "train", 31, 7)
    write_coco(root, "val", 32, 3)
    return root


def command(data: Path, out: Path, *more: str) -> list[str]:
    options = ["--epochs", "3", "--batch-size", "3", "--min-size", "96", "--threads", "1", "--device", "cpu"]
    program = "from app.cli import main; main()"
    return [sys.executable, "-c", program, "train", str(data), "--out", str(out), *options, *more]


def train(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data, out, *more), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "Shapes run"
    done = train(data, out, "--mosaic", "0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "model.toml")
    assert re.search(r"7 images", done.stderr)
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
    [found] = detector.detect([Job(detector.prepare(image), Options(0.0, 0.5, 5))])
    assert len(found) == 5


def test_thresholds_suit_the_validation_images(trained: Path, data: Path) -> None:
    """No other of those that can be chosen finds more; what the card says is what was assessed."""
    loaded = load_network(str(trained / "model.toml"), None, trained)
    images = read_dataset(data, "val", labels=loaded.card.labels).images
    assert loaded.card.nms_threshold in NMS_THRESHOLDS
    tried = [
        assess_network(loaded.network, loaded.card.model_copy(update={"nms_threshold": threshold}), images)
        for threshold in NMS_THRESHOLDS
    ]
    own = assess_network(loaded.network, loaded.card, images).numbers["AP50"]
    assert own >= max(one.numbers["AP50"] for one in tried) - 2 * EQUAL
    assert loaded.card.training is not None
    assert loaded.card.training["ap50"] == pytest.approx(own, abs=2e-3), "the weights were halved after it"


def test_the_report_shows_losses_numbers_and_examples(trained: Path) -> None:
    report = (trained / "report.md").read_text()
    assert "| even |" in report
    for name in re.findall(r"!\[.*?\]\((.*?)\)", report):
        picture = np.asarray(PillowImage.open(trained / name).convert("L"))
        assert picture.std() > 5, f"{name} is blank"
    entries = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1))
    assert sum("score" in entry for entry in entries) == 3, "a validation an epoch"


def test_ctrl_c_and_the_same_command_again_give_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole" / "run", tmp_path / "broken" / "run"
    assert train(data, whole).returncode == 0
    with subprocess.Popen(
        command(data, broken), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (broken / "checkpoint.pt").exists():
            assert process.poll() is None, "it ended before its first checkpoint"
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "goes on from the last checkpoint" in told
    assert not (broken / "model.toml").exists()
    assert train(data, broken).returncode == 0
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (broken, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_is_not_gone_on_with_by_another_recipe(trained: Path, data: Path) -> None:
    refused = train(data, trained, "--learning-rate", "0.01", "--mosaic", "0.5")
    assert refused.returncode == 1
    assert "other options" in refused.stderr


def test_the_four_steps_of_the_paper_make_a_model_too(data: Path, tmp_path: Path) -> None:
    done = train(data, tmp_path / "run", "--schedule", "alternating", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert read_card(tmp_path / "run" / "model.toml").name == "run"
    entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1))
    assert (tmp_path / "run" / "curves.png").exists()


def test_two_processes_train_one_model(data: Path, tmp_path: Path) -> None:
    """As torchrun starts them on a machine with two GPUs; here on the CPU, with gloo."""
    program = tmp_path / "program.py"
    program.write_text("from app.cli import main\nmain()\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = command(data, tmp_path / "run")[3:]
    done = subprocess.run(
        [*torchrun, str(program), *options, "--epochs", "2"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "run" / "model.toml"), "one process speaks for all"
    entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1))
    assert sum("score" in entry for entry in entries) == 2
    load_detector(DetectorSpec(model=str(tmp_path / "run" / "model.toml"), cache_dir=tmp_path, device="cpu"))


def test_processes_share_a_batch_out(data: Path) -> None:
    images = read_dataset(data, "train").images
    plan = BatchPlan(3, 1, Augmentation(mirror=False))
    whole = next(iter(FolderBatches(images, plan)))
    parts = [next(iter(FolderBatches(images, replace(plan, process=ProcessRank(k, 2))))) for k in range(2)]
    assert [len(part.images) for part in parts] == [2, 1]
    shared = [parts[0].images[0], parts[1].images[0], parts[0].images[1]]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole.images, shared, strict=True))


def test_the_end_of_a_run_sees_whole_images_and_batches_turn_together(data: Path) -> None:
    images = read_dataset(data, "train").images
    change = Augmentation(mirror=False, turn=True, mosaic=1.0)
    batches = iter(FolderBatches(images, BatchPlan(3, 1, change, whole_from=10)))
    sizes = {(image.height, image.width) for image in images}
    series = [next(batches) for _ in range(20)]
    assert {tuple(image.shape[1:]) for batch in series for image in batch.images} == {(120, 160), (160, 120)}
    assert all(len({tuple(image.shape) for image in batch.images}) == 1 for batch in series)
    objects = sorted(len(image.boxes) for image in images)
    late = [len(target["boxes"]) for batch in series[10:] for target in batch.targets]
    assert sizes == {(120, 160), (160, 120)}
    assert set(late) <= set(objects), "a whole image has all of its objects"


def test_the_data_are_named_once_by_place_or_by_option(data: Path, tmp_path: Path) -> None:
    refused = train(data, tmp_path / "run", "--data", str(data))
    assert refused.returncode == 2
    assert "name the folder of images once" in refused.stderr
    program = command(data, tmp_path / "run", "--epochs", "1")
    at = program.index(str(data))
    named = [*program[:at], "--data", str(data), *program[at + 1 :]]
    done = subprocess.run(named, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_resume_needs_something_to_go_on_with(data: Path, tmp_path: Path) -> None:
    refused = train(data, tmp_path / "run", "--resume")
    assert refused.returncode == 2
    assert "holds no checkpoint" in refused.stderr


def test_a_model_is_a_start_for_other_classes(data: Path, tmp_path: Path) -> None:
    done = train(data, tmp_path / "run", "--from", "shapes", "--val-split", "none", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    card = read_card(tmp_path / "run" / "model.toml")
    assert card.training is not None
    assert card.training["evaluated_on"] == "the training images themselves"
    ours = load_network(str(tmp_path / "run" / "model.toml"), None, tmp_path).network.state_dict()
    theirs = load_network("shapes", None, tmp_path).network.state_dict()
    frozen = [name for name in ours if "running_mean" in name]
    assert frozen
    assert all(torch.equal(ours[name], theirs[name]) for name in frozen), "few images say little of the norms"
    assert not torch.equal(ours["rpn.head.cls_logits.weight"], theirs["rpn.head.cls_logits.weight"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--from", "nothing-like-it"], "shapes"),
        (["--from", "imagenet"], "small has no ImageNet weights"),
        (["--from", "coco-r50-fpn"], "--architecture resnet50_fpn"),
        (["--architecture", "resnet9000"], "resnet50_fpn"),
        (["--train-split", "tomorrow"], "tomorrow"),
        (["--min-size", "200", "--max-size", "100"], "--max-size 100"),
    ],
)
def test_what_cannot_be_done_is_said(data: Path, tmp_path: Path, options: list[str], told: str) -> None:
    refused = train(data, tmp_path / "run", *options)
    assert refused.returncode in (1, 2)
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_epoch_shows_every_image_once_in_one_orientation_a_batch(data: Path) -> None:
    images = read_dataset(data, "train").images
    plan = BatchPlan(3, 5, Augmentation(mirror=False))
    series = iter(FolderBatches(images, plan))
    batches = [next(series) for _ in range(batches_per_epoch(images, 3))]
    assert sum(len(batch.images) for batch in batches) == len(images) == 7
    sums = {round(float(image.sum()), 2) for batch in batches for image in batch.images}
    assert len(sums) == 7, "each image once"
    for batch in batches:
        assert len({image.shape[1] > image.shape[2] for image in batch.images}) == 1
    later = next(iter(FolderBatches(images, plan, first=2)))
    assert all(torch.equal(a, b) for a, b in zip(later.images, batches[2].images, strict=True))


def test_a_damaged_image_is_left_out_of_a_run(data: Path, tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 33, 4)
    file = tmp_path / "train" / "1.png"
    file.write_bytes(file.read_bytes()[:2000])
    images = read_dataset(tmp_path, "train").images
    series = iter(FolderBatches(images, BatchPlan(2, 1, Augmentation())))
    for _ in range(batches_per_epoch(images, 2)):
        assert all(image.isfinite().all() for image in next(series).images)
