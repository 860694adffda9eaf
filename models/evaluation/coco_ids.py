"""COCO documents with the ids of the user's own files in place of those of the evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.datasets import AnnotatedImage, Dataset

Id = int | str
Document = dict[str, Any]
"""A document, an annotation or a result of COCO."""


@dataclass(frozen=True)
class CocoIds:
    """The user's ids by those of the evaluation."""

    images: Mapping[int, Id]
    categories: Mapping[int, Id]

    def truth(self, document: Document) -> Document:
        """The ground truth with the user's ids."""
        return document | {
            "images": [entry | {"id": self.images[entry["id"]]} for entry in document["images"]],
            "categories": [entry | {"id": self.categories[entry["id"]]} for entry in document["categories"]],
            "annotations": self.rows(document["annotations"]),
        }

    def rows(self, rows: Sequence[Document]) -> list[Document]:
        """Results, or annotations, with the user's ids."""
        return [
            row
            | {
                "image_id": self.images[row["image_id"]],
                "category_id": self.categories[row["category_id"]],
            }
            for row in rows
        ]


def ids_of(dataset: Dataset, images: Sequence[AnnotatedImage]) -> CocoIds | None:
    """The ids of the data set's files; None where there are none, or where two files use one id twice."""
    given = [image.id for image in images if image.id is not None]
    names = dataset.labels[1:]
    if (
        len(given) != len(images)
        or len(set(given)) != len(images)
        or not set(names) <= set(dataset.category_ids)
    ):
        return None
    categories = {label: dataset.category_ids[name] for label, name in enumerate(names, start=1)}
    if len(set(categories.values())) != len(names):
        return None
    return CocoIds(dict(enumerate(given, start=1)), categories)
