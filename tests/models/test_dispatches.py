"""The stages after the dense part have fixed shapes: they run on meta tensors, and the host reads once."""

from collections import Counter

import pytest
import torch
from torchvision.models.detection import FasterRCNN

from bench.dispatches import META, MODEL, DispatchCounter, MetaEngine, count, meta_jobs
from models.detector import Detector
from models.engines.protocol import DenseOutput
from models.networks import build_network
from models.options import Options
from models.pipeline.padded import PaddedAnswers
from models.pipeline.stage_timer import StageTimer
from models.pipeline.trimmed import Trimmed
from models.zoo.catalogue import find_card
from models.zoo.sections import Anchors, Preprocessing, Rpn, Section

MOST = {1: 120, 8: 160}


@pytest.fixture(scope="module")
def network() -> FasterRCNN:
    card = find_card(MODEL, None)
    with META:  # nothing is initialised
        return build_network(card.architecture, len(card.labels)).eval()


def test_a_batch_runs_to_its_end_without_a_value(network: FasterRCNN) -> None:
    detector = Detector(network, find_card(MODEL, None), MetaEngine(network, DispatchCounter()))
    options = Options(0.5, 0.5, 100, classes=frozenset({1, 3}), class_agnostic=True, min_area=9.0)
    jobs = meta_jobs(2, options)
    runner = detector._runner
    answers = runner(
        runner.batch([job.canvas for job in jobs], [options] * 2), StageTimer(META, lambda *_: None)
    )
    assert isinstance(answers, PaddedAnswers)
    assert answers.columns.device == META


@pytest.mark.parametrize("section", [Preprocessing(pad_to=1), Anchors(offset=0.5), Rpn(rank_by="logits")])
def test_a_card_with_sections_has_as_many_rows_as_there_are(network: FasterRCNN, section: Section) -> None:
    """Fixed numbers of rows are for torchvision's ways."""
    card = find_card(MODEL, None).model_copy(update={type(section).__name__.lower(): section})
    detector = Detector(network, card, MetaEngine(network, DispatchCounter()))
    assert isinstance(detector._runner._tail.shapes, Trimmed)


def test_few_dispatches_and_one_host_read(network: FasterRCNN) -> None:
    for images, counter in count(network):
        assert 80 < counter.dispatches.total() <= MOST[images]  # fewer: something was not counted
        assert counter.host_reads == Counter({"aten._to_copy.default": 1}), images


class Reading(MetaEngine):
    """Reads values and sends constants in its head, in each of the ways that the counter must see."""

    def head(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = pooled[0, 0, 0]
        first[0].item()
        bool(first[1] > 0)
        first.tolist()
        first + torch.tensor([1.0] * 7, device=META)
        first + torch.ones(7).to(META)
        first[torch.tensor([1, 2])]
        first[[1, 2]]
        return super().head(pooled)


def test_each_read_and_each_constant_is_counted(network: FasterRCNN) -> None:
    usual, reading = DispatchCounter(), DispatchCounter()
    for counter, engine in ((usual, MetaEngine), (reading, Reading)):
        detector = Detector(network, find_card(MODEL, None), engine(network, counter))
        with counter.watch():
            detector.detect(meta_jobs(1, Options(0.5, 0.5, 100)))
    more = reading.host_reads - usual.host_reads
    assert more.total() == 7, more
    assert reading.dispatches.total() > usual.dispatches.total()


def test_a_shape_that_depends_on_values_is_counted_and_ends_the_run(network: FasterRCNN) -> None:
    for where in (torch.nonzero, lambda tensor: tensor[tensor > 0]):
        counter = DispatchCounter()
        counter.counting = True
        with counter.watch(), pytest.raises((NotImplementedError, RuntimeError)):
            where(torch.empty(3, device=META))
        assert counter.host_reads.total() >= 1


def test_a_view_and_the_hosts_own_work_are_not_counted() -> None:
    counter = DispatchCounter()
    counter.counting = True
    with counter.watch():
        torch.empty(2, 3, device=META).T[0].unsqueeze(0)
        (torch.ones(3) + 1).tolist()
    assert counter.dispatches.total() == counter.host_reads.total() == 0


def test_the_dense_part_is_not_counted(network: FasterRCNN) -> None:
    counter = DispatchCounter()
    output = None
    with counter.watch():
        output = MetaEngine(network, counter).dense(torch.empty(1, 3, 64, 64, device=META))
    assert isinstance(output, DenseOutput)
    assert counter.dispatches.total() == 0
