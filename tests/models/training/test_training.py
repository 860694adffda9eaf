"""The training loop: it learns, resumes exactly, logs each loss part and stops on nonsense."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import FasterRCNN

from models.networks import build_network
from models.shapes.batches import SceneBatches
from models.training.alternating import train_alternating
from models.training.batches import Batch
from models.training.optimizer import TrainingConfig, learning_rate
from models.training.train import TrainingDiverged, Watch, train

CONFIG = TrainingConfig(steps=6, batch_size=2, warmup_steps=2, checkpoint_every=3, seed=4)
PARTS = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


def batches(first: int) -> Iterator[Batch]:
    """Two tiny scenes a batch, numbered, so that a resumed run sees what it would have seen."""
    number = first
    while True:
        generator = torch.Generator().manual_seed(number)
        images = [torch.rand(3, 96, 128, generator=generator) for _ in range(2)]
        target = {"boxes": torch.tensor([[20.0, 20.0, 70.0, 80.0]]), "labels": torch.tensor([1 + number % 3])}
        yield Batch(
            images, [target, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
        )
        number += 1


def run(folder: Path, config: TrainingConfig = CONFIG, until: int | None = None) -> dict[str, torch.Tensor]:
    """Train in `folder`; `until` raises KeyboardInterrupt there, as a person would."""
    torch.manual_seed(0)
    network = build_network("small", 4)
    network.transform.min_size, network.transform.max_size = (96,), 128

    def progress(step: int, losses: dict[str, float]) -> None:
        if step == until:
            raise KeyboardInterrupt

    return train(network, batches, config, folder, Watch(progress)).state_dict()


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", until=4)
    resumed = run(tmp_path / "broken")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_every_loss_part_is_logged_each_step(tmp_path: Path) -> None:
    run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert all(line.keys() >= PARTS | {"lr", "norm"} for line in lines)
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 6


def test_the_network_learns_two_images_by_heart(tmp_path: Path) -> None:
    config = TrainingConfig(steps=25, batch_size=2, warmup_steps=3, learning_rate=1e-3, checkpoint_every=100)
    run(tmp_path, config)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    total = [sum(line[part] for part in PARTS) for line in lines]
    assert sum(total[-5:]) < 0.7 * sum(total[:5])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    config = TrainingConfig(steps=20, batch_size=2, warmup_steps=1, learning_rate=1e30, clip_norm=1e30)
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        run(tmp_path, config)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    config = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == rates[9] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_stepped_rate_falls_tenfold_twice() -> None:
    config = TrainingConfig(steps=90, warmup_steps=10, learning_rate=1.0, rate="steps")
    rates = [learning_rate(step, config) for step in (9, 59, 60, 79, 80, 89)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_sgd_learns_too_and_resumes_exactly(tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer="sgd", learning_rate=0.01, rate="steps")
    whole = run(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", config, until=5)
    resumed = run(tmp_path / "broken", config)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    adamw = run(tmp_path / "adamw")
    assert any(not torch.equal(whole[name], adamw[name]) for name in whole)


def alternate(folder: Path, until: int | None = None) -> FasterRCNN:
    """The four steps, six batches each."""
    torch.manual_seed(0)
    network = build_network("small", 4)
    network.transform.min_size, network.transform.max_size = (96,), 128

    def progress(step: int, losses: dict[str, float]) -> None:
        if step == until:
            raise KeyboardInterrupt

    return train_alternating(network, batches, CONFIG, folder, Watch(progress))


def test_alternating_trains_rpn_and_head_in_turns_on_one_backbone(tmp_path: Path) -> None:
    """Ren et al. 2015, §3.2: from the third step on the backbone of the second is left as it is."""
    trained = alternate(tmp_path).state_dict()
    averages = [
        torch.load(tmp_path / f"step-{k}" / "checkpoint.pt", weights_only=True)["average"]
        for k in range(1, 5)
    ]

    def same(first: int, second: int, part: str) -> bool:
        pair = averages[first - 1], averages[second - 1]
        return all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0] if name.startswith(part))

    assert not same(1, 2, "backbone.")
    assert same(2, 3, "backbone.")
    assert same(3, 4, "backbone.")
    assert not same(1, 3, "rpn.")
    assert same(3, 4, "rpn.")
    assert same(2, 3, "roi_heads.")
    assert not same(3, 4, "roi_heads.")
    assert all(torch.equal(trained[name], averages[3][name]) for name in trained)
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, 25))
    rpn, head = {"loss_objectness", "loss_rpn_box_reg"}, {"loss_classifier", "loss_box_reg"}
    assert [entries[k].keys() & PARTS for k in (0, 6, 12, 18)] == [rpn, head, rpn, head]


def test_an_interrupted_alternation_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = alternate(tmp_path / "whole").state_dict()
    for until in (4, 11, 17):
        with pytest.raises(KeyboardInterrupt):
            alternate(tmp_path / "broken", until)
    resumed = alternate(tmp_path / "broken").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_batches_hold_one_orientation_and_can_start_anywhere() -> None:
    series = iter(SceneBatches(seed=3, batch_size=2))
    first, second = next(series), next(series)
    assert all(image.shape[2] >= image.shape[1] for image in first.images)
    assert all(image.shape[1] >= image.shape[2] for image in second.images)
    later = next(iter(SceneBatches(seed=3, batch_size=2, first_batch=1)))
    assert all(torch.equal(a, b) for a, b in zip(second.images, later.images, strict=True))
    for image, target in zip(first.images, first.targets, strict=True):
        assert (target["boxes"][:, 2] <= image.shape[2]).all()
        assert (target["boxes"][:, 3] <= image.shape[1]).all()
