"""A dataset without a split is divided: the same way each time, by class, copies of an image together."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from models.datasets import Dataset, DatasetError, ReadOptions, read_part, read_training_data
from tests.support.data.datasets import (
    FRUIT,
    Box,
    Picture,
    write_coco,
    write_voc,
    write_yolo,
)

SIZE = (64, 48)
BOX: Box = (4.0, 4.0, 30.0, 30.0)


def many(count: int = 60) -> tuple[Picture, ...]:
    """A third with pears, some with plums, six with apples, the rest empty."""
    names = [
        ("apple",) if n % 10 == 0 else ("pear",) if n % 3 == 0 else ("plum",) if n % 2 else ()
        for n in range(count)
    ]
    return tuple(
        Picture(f"{n:03}.png", SIZE, tuple((name, BOX) for name in each)) for n, each in enumerate(names)
    )


def names(dataset: Dataset) -> list[str]:
    return sorted(image.path.name for image in dataset.images)


def split(root: Path, **options: float) -> tuple[Dataset, Dataset]:
    train, val = read_training_data(root, options=ReadOptions(**options))  # type: ignore[arg-type]  # numbers alone
    assert val is not None
    return train, val


def test_the_split_is_stratified_said_and_repeatable(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "one", {"default": many()})
    train, val = split(root, val_fraction=0.2)
    assert not set(names(train)) & set(names(val))
    assert len(train.images) + len(val.images) == 60
    assert len(val.images) == 12
    per_class = Counter(train.labels[label] for image in val.images for label in image.labels.tolist())
    assert per_class == {"apple": 1, "pear": 4, "plum": 4}
    assert "12 of 60 images are chosen" in val.report.notes[-1]
    assert "--val-fraction" in train.report.summary()
    shutil.copytree(root, tmp_path / "other")
    assert names(split(tmp_path / "other", val_fraction=0.2)[1]) == names(val)
    assert names(read_part(root, "val", options=ReadOptions(val_fraction=0.2))) == names(val)


def test_an_image_that_cannot_be_read_is_in_neither_part_and_a_fault_of_the_training(tmp_path: Path) -> None:
    root = write_coco(tmp_path, {"default": many(20)})
    broken = next(root.rglob("007.png"))
    broken.write_bytes(b"no image")
    train, val = split(root)
    assert "007.png" not in {*names(train), *names(val)}
    assert (train.report.counts, val.report.counts) == ({"unreadable_image": 1}, {})
    assert "1 image that is absent or cannot be read is in neither part" in val.report.notes


@pytest.mark.parametrize("write_format", [write_coco, write_voc, write_yolo])
def test_only_what_is_missing_is_divided(write_format: object, tmp_path: Path) -> None:
    assert callable(write_format)
    root = write_format(tmp_path, {"train": many(20), "test": FRUIT["val"]})
    if (root / "data.yaml").exists():
        (root / "data.yaml").write_text(
            "train: images/train\ntest: images/test\nnames: [apple, pear, plum]\n"
        )
    train, val = split(root)
    assert len(train.images) + len(val.images) == 20
    assert not set(names(train)) & set(names(val))


def test_augmented_copies_of_an_image_stay_together(tmp_path: Path) -> None:
    copies = tuple(
        Picture(f"{n}_jpg.rf.{copy}abc.png", SIZE, (("pear", BOX),)) for n in range(20) for copy in range(3)
    )
    train, val = split(write_coco(tmp_path, {"train": copies}), val_fraction=0.3)
    sources = [{name.split(".rf.")[0] for name in names(part)} for part in (train, val)]
    assert not sources[0] & sources[1]
    assert len(val.images) % 3 == 0


def test_one_image_cannot_be_divided(tmp_path: Path) -> None:
    root = write_coco(tmp_path, {"default": FRUIT["val"]})
    with pytest.raises(DatasetError, match="--train-split none --val-split none"):
        read_training_data(root)
    train, val = read_training_data(root, ("train", None))
    assert (len(train.images), val) == (1, None)
    assert "every image is trained on" in train.report.notes[0]


def test_a_split_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    root = write_coco(tmp_path, {"val": many(8), "test": FRUIT["val"]})
    with pytest.raises(DatasetError, match=r"there are: test, val .*--train-split NAME"):
        read_training_data(root)


def test_images_in_both_splits_are_said(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train": FRUIT["train"]})
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [apple, pear, plum]\n")
    _, val = split(root)
    assert "2 of 2 images of the validation are trained on too" in val.report.notes[0]


def test_a_split_that_data_yaml_names_in_vain_is_made(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train": many(20)})
    train, val = split(root)
    assert len(train.images) + len(val.images) == 20
    assert "for split 'val' images/val is not there" in val.report.notes
