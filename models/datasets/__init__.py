"""Datasets for training and evaluation: annotations in any of the usual formats, as one type. Without torch.

Faults in annotations are counted, skipped or cut, and reported. Only what leaves nothing to learn or to
measure, or can be understood in several ways, is an error.
"""

from models.datasets.checks.ground import require_objects
from models.datasets.dataset import (
    AnnotatedImage,
    DataOptionError,
    Dataset,
    DatasetError,
    Format,
    NoSplitError,
)
from models.datasets.faults import FAULT_KINDS, AnnotationReport, Fault, FaultKind
from models.datasets.formats import FORMATS
from models.datasets.options import ReadOptions
from models.datasets.reading import read_dataset, read_part, read_training_data

__all__ = [
    "read_dataset",
    "read_part",
    "read_training_data",
    "require_objects",
    "ReadOptions",
    "Dataset",
    "AnnotatedImage",
    "AnnotationReport",
    "Fault",
    "FaultKind",
    "FAULT_KINDS",
    "FORMATS",
    "Format",
    "DatasetError",
    "DataOptionError",
    "NoSplitError",
]
