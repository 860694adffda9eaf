"""The file formats: torch's zip and older stream, plain pickles of arrays, safetensors; and what is none."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints.errors import CheckpointError
from models.checkpoints.tensors import ReadStorage
from models.checkpoints.unpickler import InertUnpickler

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first object of a file of PyTorch before 1.6
LEGACY_OBJECTS = 2  # protocol version and system information precede the content
HEAD = 512  # bytes in which a file's kind shows
MAX_HEADER = 100 << 20  # of safetensors, by its specification
ALIGNED = 16  # bytes; storages of other alignment are copied

# What reading a damaged or hostile pickle raises, found by fuzzing.
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    AssertionError,
    struct.error,
    OSError,
    MemoryError,
    NotImplementedError,
)

AGAIN = "get the file again"
HTML = b"<!doctype html", b"<html"
# First bytes of files that people give by mistake, and what these are.
OTHERS = {
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
    b"GGUF": "a GGUF file",
    b"\x08": "an ONNX model or another protobuf file",  # the field of its version comes first
}
TEXT = frozenset(b"\t\r\n") | frozenset(range(32, 127))
SHOWN_TEXT = 40


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A file's content: plain values, placeholders, and tensors that `read_storage` has the bytes of."""

    content: object
    read_storage: ReadStorage
    foreign: tuple[str, ...] = ()  # classes and functions that the pickle names


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint by what it contains, whatever its suffix; raises CheckpointError."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    _refuse_other_files(head)
    try:
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(path)
        if _is_safetensors(head):
            return Checkpoint(_read_safetensors(path), _no_storage)
        return _read_stream(path)
    except CheckpointError:
        raise
    except UNREADABLE as error:
        _refuse_text(head)
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"not a readable weights file ({type(error).__name__}: {reason}): damaged or cut off; {AGAIN}"
        ) from error


def _refuse_other_files(head: bytes) -> None:
    text = head.lstrip().lower()
    if not head:
        raise CheckpointError(f"not a readable weights file: it is empty; {AGAIN}")
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError("a Git LFS pointer and not the weights; run `git lfs pull` where it comes from")
    if text.startswith(HTML):
        raise CheckpointError(
            "an HTML page and not weights, as a download page or a login answers; download the file itself"
        )
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        raise CheckpointError("a tar or gzip archive; unpack it and give the checkpoint inside")
    for mark, kind in OTHERS.items():
        if head.startswith(mark) and not _is_safetensors(head):
            raise CheckpointError(f"{kind}; only PyTorch checkpoints and safetensors can be read")


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < MAX_HEADER


def _refuse_text(head: bytes) -> None:
    """Only where reading failed: the oldest pickles are text too."""
    if TEXT.issuperset(head):
        begins = head.decode().strip()[:SHOWN_TEXT]
        raise CheckpointError(
            f"a text and not weights, as a failed download or a configuration; it begins {begins!r}; {AGAIN}"
        )


def _no_storage(key: str) -> Tensor:
    raise CheckpointError("a tensor in it has no storage")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _read_zip(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        pickled = next((name for name in infos if name.endswith("data.pkl")), None)
        folder = (pickled or "").removesuffix("data.pkl")
        if f"{folder}constants.pkl" in infos or any(name.startswith(f"{folder}code/") for name in infos):
            raise CheckpointError(
                "a TorchScript program and not a state dict; "
                "save the weights: torch.save(torch.jit.load(path).state_dict(), new_path)"
            )
        if pickled is None and any(name.endswith("/archive_format") for name in infos):
            raise CheckpointError(
                "a program of torch.export and not a state dict; save the weights: "
                "torch.save(torch.export.load(path).state_dict, new_path)"
            )
        if pickled is None:
            raise CheckpointError(
                "a zip archive without weights of PyTorch; unpack it and give the checkpoint"
            )
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
            raise CheckpointError("a compressed zip archive, which PyTorch does not write; unpack it")
        if f"{folder}byteorder" in infos and archive.read(f"{folder}byteorder") != b"little":
            raise CheckpointError("written on a big-endian machine; save it as safetensors there")
        with archive.open(pickled) as file:
            unpickler = InertUnpickler(file)
            content = unpickler.load()
    return Checkpoint(content, _ZipStorages(path, folder, infos), tuple(unpickler.foreign))


class _ZipStorages:
    """Storages of a zip, mapped from the file: only what is used is read."""

    def __init__(self, path: Path, folder: str, infos: Mapping[str, zipfile.ZipInfo]) -> None:
        self._bytes = np.memmap(path, np.uint8, "c")
        self._folder, self._infos = folder, infos

    def __call__(self, key: str) -> Tensor:
        info = self._infos.get(f"{self._folder}data/{key}")
        if info is None:
            raise CheckpointError(f"the data of a tensor is missing: damaged or cut off; {AGAIN}")
        header = bytes(self._bytes[info.header_offset : info.header_offset + 30])
        if len(header) < 30:
            raise CheckpointError(f"the data of a tensor is missing: damaged or cut off; {AGAIN}")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        start = info.header_offset + 30 + name_length + extra_length
        found = torch.from_numpy(self._bytes[start : start + info.file_size])
        return found if start % ALIGNED == 0 else found.clone()


def _read_stream(path: Path) -> Checkpoint:
    """A plain pickle, or the file of a PyTorch before 1.6: several pickles, then the storages."""
    with path.open("rb") as file:
        unpickler = InertUnpickler(file)
        content = unpickler.load()
        if content != LEGACY_MAGIC:
            return Checkpoint(content, _no_storage, tuple(unpickler.foreign))
        for _ in range(LEGACY_OBJECTS):
            InertUnpickler(file).load()
        unpickler = InertUnpickler(file)
        content = unpickler.load()
        keys = InertUnpickler(file).load()
        storages = _legacy_storages(file, keys, path.stat().st_size, unpickler.widths)
    return Checkpoint(content, storages.__getitem__, tuple(unpickler.foreign))


def _legacy_storages(file: IO[bytes], keys: Any, size: int, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """The bytes of each storage: a count of elements, then the elements."""
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        length = count * widths[str(key)]
        if not 0 <= length <= size - file.tell():
            raise CheckpointError(f"cut off: a tensor's data is missing; {AGAIN}")
        storages[str(key)] = torch.frombuffer(bytearray(file.read(length) or b"\0"), dtype=torch.uint8)
    return storages
