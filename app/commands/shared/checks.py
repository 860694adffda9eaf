"""What a command checks before its work starts."""

from importlib.util import find_spec
from pathlib import Path

from app.commands import CommandFailed

EXTRAS = {
    "train": ("faster_coco_eval", "matplotlib"),
    "tensorboard": ("tensorboard",),
    "cpu": ("openvino",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "quantize": ("openvino", "nncf", "faster_coco_eval"),
}


def require_extra(extra: str) -> None:
    """Raise CommandFailed where a package of the extra is not installed."""
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise CommandFailed(
            f"{', '.join(missing)} is missing; install it with: pip install 'rcnn-serve[{extra}]'"
        )


def make_folder(option: str, folder: Path) -> Path:
    """The folder that `option` names, made where it is missing; raises CommandFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"{option} {folder}: {error.strerror}; name a folder that can be written"
        raise CommandFailed(text) from error
    return folder
