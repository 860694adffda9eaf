"""The training loop: it learns, resumes exactly, logs each loss part and stops on nonsense."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.networks import build_network
from models.training.alternating import train_alternating
from models.training.batches import Batch
from models.training.optimizer import TrainingConfig, average_weights, build_optimizer, build_schedule
from models.training.state import RunStateError
from models.training.train import Callbacks, TrainingDiverged, train

pytestmark = pytest.mark.network

CONFIG = TrainingConfig(steps=4, batch_size=2, warmup_steps=2, checkpoint_every=2, seed=4)
PARTS = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
SIDE = 64


def batches(first: int) -> Iterator[Batch]:
    """Two tiny images a batch, numbered, so that a resumed run sees what it would have seen."""
    number = first
    while True:
        generator = torch.Generator().manual_seed(number)
        images = [torch.rand(3, SIDE, SIDE, generator=generator) for _ in range(2)]
        target = {"boxes": torch.tensor([[10.0, 10.0, 50.0, 60.0]]), "labels": torch.tensor([1 + number % 3])}
        empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        yield Batch(images, [target, empty])
        number += 1


def untrained() -> FasterRCNN:
    torch.manual_seed(0)
    network = build_network("small", 4)
    network.transform.min_size, network.transform.max_size = (SIDE,), SIDE
    return network


def callbacks(until: int | None = None) -> Callbacks:
    """Raise KeyboardInterrupt after step `until`, as a person would."""

    def progress(step: int, losses: dict[str, float]) -> None:
        if step == until:
            raise KeyboardInterrupt

    return Callbacks(progress)


def run(folder: Path, config: TrainingConfig = CONFIG, until: int | None = None) -> dict[str, Tensor]:
    return train(untrained(), batches, config, folder, callbacks(until)).state_dict()


def alternate(folder: Path, until: int | None = None) -> dict[str, Tensor]:
    return train_alternating(untrained(), batches, CONFIG, folder, callbacks(until)).state_dict()


def read_log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "config",
    [CONFIG, replace(CONFIG, optimizer="sgd", learning_rate=0.01, rate="steps")],
    ids=["adamw", "sgd"],
)
def test_an_interrupted_run_ends_with_the_same_weights(config: TrainingConfig, tmp_path: Path) -> None:
    """Every step logs its loss parts, and the log of a resumed run has each step once."""
    whole = run(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", config, until=3)
    assert_same(whole, run(tmp_path / "broken", config))
    log = read_log(tmp_path / "whole")
    assert read_log(tmp_path / "broken") == log
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    assert all(entry.keys() >= PARTS | {"lr", "norm"} for entry in log)
    assert log[0]["lr"] == pytest.approx(config.learning_rate / 2)
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["optimizer"] == config.optimizer


def test_a_checkpoint_of_another_release_is_refused(tmp_path: Path) -> None:
    torch.save({"network": {}, "step": 2}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunStateError, match=r"checkpoint\.pt was written by another release.*another --out"):
        run(tmp_path)


def test_the_network_learns_two_images_by_heart(tmp_path: Path) -> None:
    run(tmp_path, TrainingConfig(steps=16, batch_size=2, warmup_steps=3, checkpoint_every=100))
    totals = [sum(entry[part] for part in PARTS) for entry in read_log(tmp_path)]
    assert sum(totals[-4:]) < 0.7 * sum(totals[:4])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    config = TrainingConfig(steps=20, batch_size=2, warmup_steps=1, learning_rate=1e30, clip_norm=1e30)
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        run(tmp_path, config)


def rates(config: TrainingConfig) -> list[float]:
    """The learning rate of each step."""
    optimizer = build_optimizer(torch.nn.Linear(1, 1), config)
    schedule = build_schedule(optimizer, config)
    taken = []
    for _ in range(config.steps):
        taken.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return taken


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    """Linear, then half a cosine: the formulas in full."""
    cosine = [0.5 * (1 + math.cos(math.pi * k / 90)) for k in range(90)]
    expected = [(k + 1) / 10 for k in range(10)] + cosine
    assert rates(TrainingConfig(steps=100, warmup_steps=10, learning_rate=1.0)) == pytest.approx(expected)
    assert rates(TrainingConfig(steps=2, warmup_steps=1, learning_rate=1.0)) == pytest.approx([1.0, 1.0])


def test_the_stepped_rate_falls_tenfold_twice() -> None:
    config = TrainingConfig(steps=90, warmup_steps=10, learning_rate=1.0, rate="steps")
    taken = rates(config)
    assert [taken[k] for k in (9, 59, 60, 79, 80, 89)] == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_the_average_forgets_young_weights_faster() -> None:
    network = torch.nn.BatchNorm1d(1)
    average = average_weights(network, decay=0.3)
    expected = None
    for step, value in enumerate((4.0, 2.0, 8.0, 1.0)):
        network.weight.data.fill_(value)
        network.running_mean.fill_(-value)
        network.num_batches_tracked.fill_(step)
        average.update_parameters(network)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)
        assert average.module.running_mean.item() == pytest.approx(-expected)
        assert average.module.num_batches_tracked.item() == step


def test_an_alternation_trains_rpn_and_head_in_turns_and_resumes_exactly(tmp_path: Path) -> None:
    """Ren et al. 2015, §3.2: from the third step on the backbone of the second is left as it is."""
    trained = alternate(tmp_path)
    saved = [torch.load(tmp_path / f"step-{k}" / "checkpoint.pt", weights_only=True) for k in range(1, 5)]
    averages = [
        {
            name.removeprefix("module."): value
            for name, value in each["average"].items()
            if "n_averaged" not in name
        }
        for each in saved
    ]

    def same(first: int, second: int, part: str) -> bool:
        ours, theirs = averages[first - 1], averages[second - 1]
        return all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith(part))

    assert [same(k, k + 1, "backbone.") for k in (1, 2, 3)] == [False, True, True]
    assert not same(1, 3, "rpn.")
    assert same(3, 4, "rpn.")
    assert same(2, 3, "roi_heads.")
    assert not same(3, 4, "roi_heads.")
    assert_same(trained, averages[3])
    log = read_log(tmp_path)
    assert [entry["step"] for entry in log] == list(range(1, 17))
    rpn, head = {"loss_objectness", "loss_rpn_box_reg"}, {"loss_classifier", "loss_box_reg"}
    assert [log[k].keys() & PARTS for k in (0, 4, 8, 12)] == [rpn, head, rpn, head]
    for until in (3, 7, 14):
        with pytest.raises(KeyboardInterrupt):
            alternate(tmp_path / "broken", until)
    assert_same(alternate(tmp_path / "broken"), trained)


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step(tmp_path: Path) -> None:
    """The loss of the last step is finite, so that the weights alone would be broken."""
    network = untrained()
    network.rpn.head.cls_logits.weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(TrainingDiverged, match="the gradient is not finite at step 0"):
        train(network, batches, replace(CONFIG, steps=1), tmp_path, callbacks())
    assert all(torch.isfinite(weight).all() for weight in network.state_dict().values())


def test_a_stopped_run_hands_over_its_weights_before_the_first_validation(tmp_path: Path) -> None:
    kept: list[int] = []
    stopping = replace(
        callbacks(until=1), validate=lambda _: 0.5, validate_every=2, keep=lambda _, step: kept.append(step)
    )
    with pytest.raises(KeyboardInterrupt):
        train(untrained(), batches, CONFIG, tmp_path / "early", stopping)
    assert kept == [1]
    scores = iter([0.2, 0.1, 0.3])
    validated = replace(stopping, progress=lambda *_: None, validate=lambda _: next(scores))
    train(untrained(), batches, replace(CONFIG, steps=6), tmp_path / "whole", validated)
    assert kept == [1, 2, 6], "each time that the score is the best so far"


def test_a_longer_run_continues_a_finished_one(tmp_path: Path) -> None:
    """Its learning rate is that of the longer run from there on."""
    run(tmp_path)
    longer = replace(CONFIG, steps=8)
    run(tmp_path, longer)
    log = read_log(tmp_path)
    assert [entry["step"] for entry in log] == list(range(1, 9))
    assert [entry["lr"] for entry in log[4:]] == pytest.approx(rates(longer)[4:])


def test_a_checkpoint_that_cannot_be_written_or_read_costs_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    checkpoint.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(RunStateError, match=r"step 6 cannot be written: No space left.*repeat the command"):
        run(tmp_path, replace(CONFIG, steps=8))
    assert checkpoint.read_bytes() == whole
    assert not checkpoint.with_suffix(".partial").exists()
    for damaged in (whole[:100_000], b"", b"not one", whole[:-2000] + bytes(2000)):
        checkpoint.write_bytes(damaged)
        with pytest.raises(RunStateError, match=r"checkpoint\.pt is damaged and was left as it is"):
            run(tmp_path)
        assert checkpoint.read_bytes() == damaged


def test_the_csv_has_a_row_a_step(tmp_path: Path) -> None:
    logging = replace(callbacks(until=3), log=("csv",))
    with pytest.raises(KeyboardInterrupt):
        train(untrained(), batches, CONFIG, tmp_path, logging)
    train(untrained(), batches, CONFIG, tmp_path, replace(logging, progress=lambda *_: None))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    for row, entry in zip(rows, read_log(tmp_path), strict=True):
        assert {name: float(row[name]) for name in entry} == entry
