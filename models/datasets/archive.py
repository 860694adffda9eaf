"""Datasets in zip archives: unpacked once, into a folder that is named by the archive's content."""

import hashlib
import shutil
import tempfile
import zipfile
from pathlib import Path

from models.datasets.dataset import DatasetError

_DONE = ".unpacked"  # a file in the folder once all is unpacked
_KEEP_FREE = 2**28  # bytes of the disk that unpacking leaves free


def unpacked(root: Path, cache_dir: Path | None) -> Path:
    """The folder with the archive's files; `root` itself if it is no archive. Raises DatasetError."""
    if not (root.is_file() and root.suffix.lower() == ".zip"):
        return root
    try:
        with zipfile.ZipFile(root) as archive:
            return _unpack(archive, root, cache_dir or Path(tempfile.gettempdir()) / "rcnn-datasets")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DatasetError(f"{root}: the archive cannot be unpacked: {error}") from error
    except OSError as error:
        raise DatasetError(f"{root}: the archive cannot be unpacked: {error}; unpack it by hand") from error


def _unpack(archive: zipfile.ZipFile, root: Path, cache_dir: Path) -> Path:
    entries = archive.infolist()
    key = hashlib.sha256(
        repr([(one.filename, one.CRC, one.file_size) for one in entries]).encode("utf-8", "surrogatepass")
    )
    folder = cache_dir / "datasets" / f"{root.stem}-{key.hexdigest()[:16]}"
    if (folder / _DONE).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    size, free = sum(one.file_size for one in entries), shutil.disk_usage(folder).free
    if size + _KEEP_FREE > free:
        raise DatasetError(
            f"{root}: unpacked it has {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free; "
            "free some, or unpack it elsewhere by hand"
        )
    archive.extractall(folder)  # zipfile keeps every path inside the folder
    (folder / _DONE).touch()
    return folder
