"""The log of a run: a line a step in metrics.jsonl, and the same as metrics.csv or for TensorBoard."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.training.resume import write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LogKind = Literal["csv", "tensorboard"]

JSON, CSV, TENSORBOARD = "metrics.jsonl", "metrics.csv", "tensorboard"  # files and a folder of the run
LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
COLUMNS = ("step", "lr", "norm", *LOSSES, "score")


class RunLog:
    """Writes the entries of steps after `step`; later ones of an interrupted run are cut off."""

    def __init__(self, folder: Path, step: int, kinds: tuple[LogKind, ...]) -> None:
        self._open = ExitStack()
        _cut(folder / JSON, step)
        self._lines = self._open.enter_context((folder / JSON).open("a", buffering=1, encoding="utf-8"))
        self._rows = _open_csv(self._open, folder / CSV, step) if "csv" in kinds else None
        self._board = _open_board(self._open, folder / TENSORBOARD, step) if "tensorboard" in kinds else None

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, step: int, entry: dict[str, float]) -> None:
        """Add a step. Raises OSError."""
        self._lines.write(json.dumps({"step": step, **entry}) + "\n")
        if self._rows is not None:
            self._rows.writerow({"step": step, **entry})
        if self._board is not None:
            for name, value in entry.items():
                self._board.add_scalar(name.replace("loss_", "loss/"), value, step)


def _cut(path: Path, lines: int) -> None:
    """Keep only the first `lines` lines."""
    found = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if found[lines:]:
        write_whole(path, "".join(found[:lines]))


def _open_csv(files: ExitStack, path: Path, step: int) -> "csv.DictWriter[str]":
    _cut(path, step + 1)  # and the header
    file = files.enter_context(path.open("a", buffering=1, encoding="utf-8", newline=""))
    writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
    if not path.stat().st_size:
        writer.writeheader()
    return writer


def _open_board(files: ExitStack, folder: Path, step: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(folder), purge_step=step + 1)
    files.callback(board.close)
    return board
