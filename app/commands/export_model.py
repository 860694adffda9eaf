"""`rcnn export`: a model for another runtime, compared with ours before it is kept."""

from typing import TYPE_CHECKING

from rich.console import Console

from app.commands import USAGE, CommandFailed
from app.commands.export_arguments import ExportArguments
from app.commands.shared.checks import make_folder, require_extra
from app.commands.shared.console import read_settings

if TYPE_CHECKING:
    from models.exporting.run import Exported

PICTURE = (5, 0)  # seed and index of the drawn scene that both models are run on
EXTRAS: dict[str, tuple[str, ...]] = {"onnx": ("export",), "openvino": ("export", "cpu"), "torch": ()}
SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml",), "torch": (".pth", ".pt")}


def run(arguments: ExportArguments) -> int:
    """Export; print the file's path, how it compares with ours, and how to load it."""
    _check_out(arguments)
    for extra in EXTRAS[arguments.to]:
        require_extra(extra)
    from models.exporting.run import ExportSpec, export
    from models.images.decoder import Image
    from models.shapes.scenes import draw_scene

    settings = read_settings(model=arguments.model)
    make_folder("--out", arguments.out.parent)
    spec = ExportSpec(settings.model, arguments.to, arguments.out, settings.cache_dir, settings.model_dir)
    try:
        exported = export(spec, Image(draw_scene(*PICTURE).pixels, "PNG"))
    except (ValueError, OSError, MemoryError) as error:  # card, weights, format or disk: the text says it
        raise CommandFailed(error) from error
    print(arguments.out)
    Console(stderr=True).print(_summary(exported), highlight=False, soft_wrap=True, markup=False)
    return 0


def _check_out(arguments: ExportArguments) -> None:
    allowed = SUFFIXES[arguments.to]
    if arguments.out.suffix not in allowed:
        raise CommandFailed(
            f"--out {arguments.out}: --to {arguments.to} writes {' or '.join(allowed)}; use that ending",
            USAGE,
        )
    if arguments.out.is_dir():
        raise CommandFailed(f"--out {arguments.out} is a folder; name a file", USAGE)


def _summary(exported: "Exported") -> str:
    agreement = exported.agreement
    lines = [
        f"also:  {', '.join(map(str, exported.files[1:]))}" if exported.files[1:] else "",
        f"check: {agreement.pairs} of {agreement.ours} detections with a score above "
        f"{exported.threshold:.3g} are equal in two test pictures; largest difference "
        f"{agreement.px:.4f} px, {agreement.score:.1e} of score",
        f"load:\n{exported.code}",
    ]
    return "\n".join(filter(None, lines))
