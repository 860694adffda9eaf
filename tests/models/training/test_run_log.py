"""The log for TensorBoard: every loss by step; what an interrupted run wrote later is replaced."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.training.run_log import RunLog


def write(folder: Path, first: int, last: int, loss: float) -> None:
    with RunLog(folder, first - 1, ("tensorboard",)) as log:
        for step in range(first, last + 1):
            log.write(step, {"lr": 0.5, "loss_objectness": loss, "score": 0.25})


def test_tensorboard_has_the_entries_of_each_step_once(tmp_path: Path) -> None:
    write(tmp_path, 1, 4, loss=2.0)
    write(tmp_path, 3, 5, loss=1.0)  # continued from the checkpoint of step 2
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"lr", "loss/objectness", "score"}
    losses = [(event.step, event.value) for event in board.Scalars("loss/objectness")]
    assert losses == [(1, 2.0), (2, 2.0), (3, 1.0), (4, 1.0), (5, 1.0)]
