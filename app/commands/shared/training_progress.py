"""The progress of a training: a bar on a terminal, and lines where there is none."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn

from app.commands.shared.progress import new_bar

SECONDS = 15.0  # between two lines
AP, LOSS = "score", "loss_"  # keys of a step's entry


class TrainingProgress(Protocol):
    """Shows the steps of a run inside its block."""

    def __enter__(self) -> "TrainingProgress": ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, step: int, steps: int, entry: dict[str, float]) -> None:
        """Show a finished step."""


def show_progress(console: Console) -> TrainingProgress:
    """A bar on a terminal; in a file or pipe a line every `SECONDS`, and after each validation."""
    return (
        _Bar(console)
        if console.is_terminal
        else ProgressLines(lambda line: console.print(line, highlight=False, soft_wrap=True))
    )


class ProgressLines:
    """Writes a line for the first step, then every `SECONDS`, and after each validation."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._losses: list[float] = []  # since the last line
        self._first: tuple[int, float] | None = None  # step and time
        self._last = 0.0
        self._ap: float | None = None

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, step: int, steps: int, entry: dict[str, float]) -> None:
        """Write a line if one is due."""
        now, is_first = self._clock(), self._first is None
        self._first = self._first or (step, now)
        self._losses.append(sum(value for name, value in entry.items() if name.startswith(LOSS)))
        self._ap = entry.get(AP, self._ap)
        if is_first or AP in entry or now - self._last >= SECONDS:
            self._write(self._line(step, steps, now))
            self._last, self._losses = now, []

    def _line(self, step: int, steps: int, now: float) -> str:
        begun, since = self._first or (step, now)
        loss = sum(self._losses) / len(self._losses)
        ap = "" if self._ap is None else f", AP {self._ap:.3f}"
        left = ""
        if step > begun:
            left = f", {timedelta(seconds=round((now - since) / (step - begun) * (steps - step)))} left"
        return f"step {step} of {steps}, loss {loss:.3f}{ap}{left}"


class _Bar:
    """A progress bar with the losses and the last AP; each AP stays on the terminal too."""

    def __init__(self, console: Console) -> None:
        self._bar = new_bar(console, "Training", MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
        self._task = self._bar.add_task("steps", total=None, text="")
        self._ap = ""

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, step: int, steps: int, entry: dict[str, float]) -> None:
        """Show a finished step."""
        if AP in entry:
            self._ap = f" AP {entry[AP]:.3f}"
            self._bar.console.print(f"step {step} of {steps}, AP {entry[AP]:.3f}", highlight=False)
        values = {name.removeprefix(LOSS): value for name, value in entry.items() if name != AP}
        text = " ".join(f"{name} {value:.3g}" for name, value in values.items())
        self._bar.update(self._task, completed=step, total=steps, text=f"{text}{self._ap}")
