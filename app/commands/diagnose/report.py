"""Output of `rcnn diagnose`: tables, Markdown with plots, or one JSON object."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.commands.evaluate.answer_source import ModelFacts
from app.commands.shared.console import open_console
from models.datasets import Dataset

if TYPE_CHECKING:
    from models.diagnosis.checks import Diagnosis
    from models.diagnosis.finding import Finding, Sheet

STYLES = {"ok": "green", "suspicious": "yellow", "fault": "bold red", "not measured": "dim"}


@dataclass(frozen=True)
class Diagnosed:
    """One run: a title of the data, the data, the model, the images chosen and read, the diagnosis."""

    data: str
    dataset: Dataset
    model: ModelFacts
    chosen: int
    seen: int
    diagnosis: "Diagnosis"

    @property
    def title(self) -> str:
        """The model and the data."""
        return f"{self.model.name} on {self.data}"

    @property
    def extent(self) -> str:
        """The number of images and objects."""
        total = len(self.dataset.images)
        images = f"{self.seen} of {total} images" if self.seen < total else f"{total} images"
        return f"{images}, {self.diagnosis.recall.objects['all']} objects"


def warnings_of(diagnosed: Diagnosed) -> Iterator[str]:
    """What qualifies the numbers."""
    model, faults = diagnosed.model, diagnosed.dataset.report
    if model.fallback_reason is not None:
        yield f"{model.name} is diagnosed: {model.fallback_reason}"
    if faults.faults:
        yield f"faults of the annotations: {', '.join(f'{n} {kind}' for kind, n in faults.counts.items())}"
    if diagnosed.seen < diagnosed.chosen:
        yield f"{diagnosed.chosen - diagnosed.seen} of {diagnosed.chosen} images could not be read"


def to_document(diagnosed: Diagnosed) -> dict[str, Any]:
    """Everything, as plain values."""
    return {
        "data": {"name": diagnosed.data, "format": diagnosed.dataset.format, "images": diagnosed.seen},
        "model": diagnosed.model.to_dict(),
        **diagnosed.diagnosis.to_dict(),
        "warnings": list(warnings_of(diagnosed)),
    }


def print_report(diagnosed: Diagnosed, written: list[Path]) -> None:
    """Print the report."""
    out = open_console()
    model = diagnosed.model
    where = " · ".join(part for part in (model.engine, model.precision, model.device) if part)
    out.print(Text.assemble((diagnosed.title, "bold"), f"\n{diagnosed.extent}\n{where}"), soft_wrap=True)
    for finding in diagnosed.diagnosis.findings:
        out.print()
        _print_finding(out, finding)
    out.print(Text.assemble("\n", (diagnosed.diagnosis.summary, "bold")), soft_wrap=True)
    for path in written:
        out.print(Text(f"written: {path}"), soft_wrap=True)


def _print_finding(out: Console, finding: "Finding") -> None:
    out.print(Text(finding.title, "bold underline"), soft_wrap=True)
    for sheet in finding.sheets:
        out.print(_table(sheet))
    verdict = (finding.verdict, STYLES[finding.verdict])
    out.print(Text.assemble(verdict, f": {finding.reason}."), soft_wrap=True)
    if finding.verdict != "ok":
        out.print(Text(f"→ {finding.advice}"), soft_wrap=True)


def _table(sheet: "Sheet") -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title=sheet.title, title_justify="left")
    for number, column in enumerate(sheet.columns):
        numeric = number > 0 and all(_is_number(row[number]) for row in sheet.rows)
        table.add_column(Text(column), justify="right" if numeric else "left", no_wrap=numeric)
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _is_number(cell: str) -> bool:
    return cell[:1] in "+-0123456789"


def write_markdown(diagnosed: Diagnosed, pictures: Mapping[str, Path], folder: Path) -> Path:
    """The report as diagnosis.md, with the pictures in it. Raises OSError."""
    diagnosis = diagnosed.diagnosis
    lines = [f"# Diagnosis of {diagnosed.title}", "", f"{diagnosed.extent}.", "", f"**{diagnosis.summary}**"]
    lines += ["", "| check | verdict | why |", "| --- | --- | --- |"]
    lines += [f"| {_cell(one.title)} | {one.verdict} | {_cell(one.reason)} |" for one in diagnosis.findings]
    for finding in diagnosis.findings:
        lines += ["", f"## {finding.title}", "", f"**{finding.verdict}**: {finding.reason}."]
        if finding.verdict != "ok":
            lines += ["", f"What to do: {finding.advice}"]
        if finding.check in pictures:
            lines += ["", f"![{finding.title}]({pictures[finding.check].name})"]
        for sheet in finding.sheets:
            lines += ["", f"{sheet.title[:1].upper()}{sheet.title[1:]}:", "", *_rows(sheet)]
    path = folder / "diagnosis.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _rows(sheet: "Sheet") -> Iterator[str]:
    for row in (sheet.columns, ("---",) * len(sheet.columns), *sheet.rows):
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
