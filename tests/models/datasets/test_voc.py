"""Pascal VOC: where its files and images may lie, and what they may hold."""

from pathlib import Path

import pytest

from models.datasets import DatasetError, read_dataset
from tests.support.data.datasets import FRUIT, expected, objects, save, write, write_voc, xml


def test_voc_classes_are_those_of_the_split(tmp_path: Path) -> None:
    assert read_dataset(write_voc(tmp_path), "val").labels == ("background", "pear", "plum")


def test_voc_beside_the_images_and_in_folders(tmp_path: Path) -> None:
    for split, pictures in FRUIT.items():
        for picture in pictures:
            save(tmp_path / split / picture.name, picture.size)
            write(tmp_path / split / f"{Path(picture.name).stem}.XML", xml(picture))
    assert objects(read_dataset(tmp_path, "val")) == expected("val")
    assert objects(read_dataset(tmp_path)) == expected("train", "val")
    assert objects(read_dataset(tmp_path / "train")) == expected("train")
    with pytest.raises(DatasetError, match="not split"):
        read_dataset(tmp_path / "train", "train")


def test_only_files_of_the_voc_challenge_count_from_one(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "Annotations/a.xml"
    source = "<source><annotation>PASCAL VOC2007</annotation></source>"
    path.write_text(path.read_text().replace("<size>", f"{source}<size>"))
    assert objects(read_dataset(root))["a.jpg"][0] == ("pear", [3.25, 4.5, 20.75, 40.0])


def test_a_stale_filename_in_voc_is_asked_last(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    swapped = FRUIT["train"][0]._replace(name="C.JPG")
    write(root / "Annotations/a.xml", xml(swapped))  # names an image that is there, but not this one
    (root / "Annotations/C.xml").rename(root / "Annotations/0003.xml")  # this one's name is of no image
    dataset = read_dataset(root)
    assert objects(dataset) == expected("train", "val")
    assert dataset.report.faults == ()


def test_parts_of_a_voc_object_are_no_objects(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "Annotations/a.xml"
    part = "<part><name>leaf</name><bndbox><xmin>1</xmin></bndbox></part><name>pear"
    path.write_text(path.read_text().replace("<name>pear", part))
    assert objects(read_dataset(root)) == expected("train", "val")


def test_voc_lists_with_flags_suffixes_and_blank_lines(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write(root / "ImageSets/Main/odd.txt", "\ufeffa.jpg\r\n\r\nb two  -1\r\nJPEGImages/C.JPG\r\n\r\n")
    assert objects(read_dataset(root, "odd")) == expected("train", "val")
