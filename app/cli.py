"""The command line: `rcnn serve | detect | train | evaluate | diagnose | quantize | …`.

Each command is imported when it runs.

Exit codes of every command: 0 done; 1 it failed, or an image of several did; 2 it was called wrongly;
130 stopped by Ctrl-C.
"""

import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from app import version
from app.commands import CommandFailed
from app.commands.arguments import (
    DiagnoseArguments,
    EvaluateArguments,
    QuantizeArguments,
    ServeArguments,
    TrainArguments,
)
from app.commands.bench.arguments import BenchLineageArguments, BenchLoadArguments
from app.commands.captures.arguments import CapturesExportArguments
from app.commands.detect.arguments import DetectArguments
from app.commands.export_arguments import ExportArguments
from app.commands.help import LEARN, MACHINE, MODELS, USE, epilog, grouped
from app.commands.import_arguments import ImportArguments
from app.commands.overview_arguments import DoctorArguments, ModelsArguments, SettingsArguments

A = TypeVar("A")

app = typer.Typer(
    name="rcnn",
    help="Faster R-CNN: detect objects in images, locally or as a service.",
    epilog="Settings come from RCNN_ variables: see `rcnn settings`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(help="Measure this machine, or a service.", no_args_is_help=True)
app.add_typer(bench, name="bench", rich_help_panel=MACHINE)
captures = typer.Typer(help="Images that the service kept for labelling.", no_args_is_help=True)
app.add_typer(captures, name="captures", rich_help_panel=LEARN)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rcnn-serve {version()}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Faster R-CNN: detect objects in images, locally or as a service."""


def register(
    name: str, group: str | None, parent: typer.Typer = app, examples: str = ""
) -> Callable[[Any], Any]:
    """Make it a command of that name, in that group of the help, with its examples (default: by its name)."""
    return parent.command(name, epilog=epilog(examples or name), rich_help_panel=group)


def takes(arguments: type[A]) -> Callable[[Callable[[A], int]], Callable[..., NoReturn]]:
    """Make a command of a function from `arguments` to an exit code: the fields are the options."""

    def decorate(run: Callable[[A], int]) -> Callable[..., NoReturn]:
        def command(**values: Any) -> NoReturn:
            raise typer.Exit(_run(run, arguments(**values)))

        command.__name__, command.__doc__ = run.__name__, run.__doc__
        signature = inspect.signature(arguments)
        name = run.__name__.removesuffix("_model")
        parameters = [grouped(name, parameter) for parameter in signature.parameters.values()]
        signature = signature.replace(parameters=parameters)
        command.__signature__ = signature  # type: ignore[attr-defined]  # what inspect reads instead of **values
        command.__annotations__ = {name: field.annotation for name, field in signature.parameters.items()}
        return command

    return decorate


def _run(run: Callable[[A], int], arguments: A) -> int:
    try:
        return run(arguments)
    except CommandFailed as error:
        print(f"rcnn: {error}", file=sys.stderr)
        return error.code


@register("serve", USE)
@takes(ServeArguments)
def serve(arguments: ServeArguments) -> int:
    """Run the service until SIGTERM or Ctrl-C; accepted requests are finished first.

    Exit codes: 0 stopped by a signal, 1 it could not start or the model could not be loaded, 2 wrong usage.
    """
    from app.commands.serve import run

    return run(arguments)


@register("detect", USE)
@takes(DetectArguments)
def detect(arguments: DetectArguments) -> int:
    """Detect objects in images, videos and camera frames, with a local model or through a service.

    A bad image or video fails alone. Exit codes: 0 all images detected in, 1 an image or the model failed,
    2 wrong usage, 130 stopped by Ctrl-C, which ends --watch and cameras; results so far are written.
    """
    from app.commands.detect.detect import run

    return run(arguments)


@register("train", LEARN)
@takes(TrainArguments)
def train(arguments: TrainArguments) -> int:
    """Train a network on your own classes; the output is a model. Repeat the command to continue a run.

    Exit codes: 0 trained, 1 the data or files have a fault, 2 wrong usage, 130 or 143 stopped by Ctrl-C or
    SIGTERM; then the folder has the best model so far.
    """
    from app.commands.train import run

    return run(arguments)


@register("evaluate", LEARN)
@takes(EvaluateArguments)
def evaluate(arguments: EvaluateArguments) -> int:
    """Measure a model on annotated images: COCO's AP and AR, by class, with plots; locally or by a service.

    Exit codes: 0 all images detected in, 1 an image or the model failed, 2 wrong usage.
    """
    from app.commands.evaluate.evaluate import run

    return run(arguments)


@register("diagnose", LEARN)
@takes(DiagnoseArguments)
def diagnose(arguments: DiagnoseArguments) -> int:
    """Find what costs a model AP: proposals, NMS, coordinates, anchors, losses; with advice.

    Exit codes: 0 diagnosed, whatever the result, 1 it failed, 2 wrong usage.
    """
    from app.commands.diagnose.diagnose import run

    return run(arguments)


@register("quantize", LEARN)
@takes(QuantizeArguments)
def quantize(arguments: QuantizeArguments) -> int:
    """Quantize a model to int8, measured against fp32; RCNN_PRECISION=int8 serves it on CPUs.

    Exit codes: 0 written, 1 int8 loses too much or it failed (nothing is written), 2 wrong usage.
    """
    from app.commands.quantize import run

    return run(arguments)


@register("import", MODELS)
@takes(ImportArguments)
def import_model(arguments: ImportArguments) -> int:
    """Make a model of a checkpoint of detectron2, mmdetection or torchvision; nothing in it is run.

    Exit codes: 0 written and tried, 1 the checkpoint cannot be served, 2 wrong usage.
    """
    from app.commands.import_model import run

    return run(arguments)


@register("export", MODELS)
@takes(ExportArguments)
def export_model(arguments: ExportArguments) -> int:
    """Write a model as ONNX, OpenVINO's IR or torchvision's state dict; the file is compared with ours.

    Exit codes: 0 written and compared, 1 it cannot be exported or answers otherwise (nothing is written),
    2 wrong usage.
    """
    from app.commands.export_model import run

    return run(arguments)


@register("models", MODELS)
@takes(ModelsArguments)
def models(arguments: ModelsArguments) -> int:
    """List the models of the zoo and of RCNN_MODEL_DIR."""
    from app.commands.models import run

    return run(arguments)


@register("settings", MACHINE)
@takes(SettingsArguments)
def settings(arguments: SettingsArguments) -> int:
    """List the settings: name, default, allowed values, purpose."""
    from app.commands.settings import run

    return run(arguments)


@register("export", None, captures, examples="captures export")
@takes(CapturesExportArguments)
def export_captures(arguments: CapturesExportArguments) -> int:
    """Write captures as a data set, to correct in an annotation tool and to train on.

    Exit codes: 0 written, 1 there are none or it failed, 2 wrong usage.
    """
    from app.commands.captures.export import run

    return run(arguments)


@register("doctor", MACHINE)
@takes(DoctorArguments)
def doctor(arguments: DoctorArguments) -> int:
    """Check this machine: Python, torch, device, engine, models, cache, ports, proxies; with what to do.

    It asks no other machine. Exit codes: 0 the service can start, 1 it cannot, 2 wrong usage.
    """
    from app.commands.doctor.doctor import run

    return run(arguments)


@register("lineage", None, bench)
@takes(BenchLineageArguments)
def lineage(arguments: BenchLineageArguments) -> int:
    """Time R-CNN, Fast R-CNN and Faster R-CNN on the same network and images, beside the published times.

    Exit codes: 0 timed, 1 OpenCV is missing or an image cannot be read, 2 wrong usage.
    """
    from app.commands.bench.lineage import run

    return run(arguments)


@register("load", None, bench)
@takes(BenchLoadArguments)
def load(arguments: BenchLoadArguments) -> int:
    """Send images to a service for some seconds, and print images/s, latencies and errors.

    With --rate, latency counts from the time a request was due. Exit codes: 0 measured, 1 the service refused
    the first image or cannot be reached, 2 wrong usage.
    """
    from app.commands.bench.load import run

    return run(arguments)


def main() -> None:
    """Entry point of `rcnn`."""
    try:
        app(prog_name="rcnn")
    except Exception as error:  # noqa: BLE001  # the user gets one line, not a traceback
        sys.exit(_report_bug(error))


def _report_bug(error: Exception) -> int:
    print(f"rcnn: unexpected error: {type(error).__name__}: {error}", file=sys.stderr)
    if _wants_traceback():
        traceback.print_exception(error)
    else:
        print(
            "This is a bug in rcnn. Run it again with RCNN_LOG_LEVEL=debug for the traceback.",
            file=sys.stderr,
        )
    return 1


def _wants_traceback() -> bool:
    from app.commands.shared.console import read_settings

    try:
        return read_settings().log_level == "debug"
    except CommandFailed:
        return False  # a broken setting is not what failed here


if __name__ == "__main__":  # as torchrun starts it
    main()
