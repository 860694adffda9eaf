"""The OpenVINO engine: it computes what torch does, reuses its memory, and keeps what it converted."""

import gc
import weakref
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.detector import DetectorSpec, load_detector
from models.engines import EngineChoice, EngineUnavailable, build_engine
from models.engines.protocol import Engine
from tests.support.data.networks import canvases, dense, detect, random_network
from tests.support.process import python

pytestmark = pytest.mark.network

SHAPES = [(1, 64, 96), (3, 128, 64), (1, 320, 448)]
CHANNELS, SIDE, CLASSES = 96, 7, 5  # of the small network


def build(cache_dir: Path | None = None, engine: str = "openvino", seed: int = 3, **more: str) -> Engine:
    choice = EngineChoice(device="cpu", engine=engine, cache_dir=cache_dir, **more)
    return build_engine(random_network(seed=seed), choice)


def head(engine: Engine, pooled: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        return engine.head(pooled)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def engine(cache: Path) -> Engine:
    return build(cache)


@pytest.fixture(scope="module")
def eager() -> Engine:
    return build(engine="torch")


def test_a_cpu_gets_openvino_in_fp32(cache: Path) -> None:
    chosen = build(cache, engine="auto")
    assert (chosen.name, chosen.device, chosen.precision) == ("openvino", "cpu", "fp32")


@pytest.mark.parametrize("rois", [0, 1, 7, 300])
def test_the_head_is_torchs(engine: Engine, eager: Engine, rois: int) -> None:
    pooled = torch.randn(rois, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    logits, deltas = head(engine, pooled)
    assert (logits.shape, deltas.shape) == ((rois, CLASSES), (rois, 4 * CLASSES))
    for ours, theirs in zip((logits, deltas), head(eager, pooled), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_feature_maps_lie_as_roi_align_reads_them(engine: Engine) -> None:
    """Channels last: their rows are a view, not a copy."""
    level = dense(engine, canvases(*SHAPES[0]))[0]
    assert level.permute(0, 2, 3, 1).is_contiguous()


def test_the_dense_part_is_torchs_in_reused_memory(engine: Engine, eager: Engine) -> None:
    """Sizes up and down: each output overwrites the last. bf16 would be a hundred times further off."""
    for seed, shape in enumerate([*SHAPES, *reversed(SHAPES), *SHAPES]):
        ours, theirs = dense(engine, canvases(*shape, seed)), dense(eager, canvases(*shape, seed))
        assert len(ours) == len(theirs) == 12
        for one, other in zip(ours, theirs, strict=True):
            assert one.shape == other.shape
            assert float((one - other).abs().max() / other.abs().max()) < 1e-5


def test_batches_of_one_shape_share_their_memory(cache: Path) -> None:
    chosen = build(cache)
    dense(chosen, canvases(*SHAPES[0]))  # tells the shapes
    places = {dense(chosen, canvases(*SHAPES[0], seed))[0].data_ptr() for seed in range(3)}
    assert len(places) == 1


def test_the_heads_answer_is_not_overwritten_by_the_next(engine: Engine) -> None:
    pooled = torch.randn(2, 9, CHANNELS, SIDE, SIDE)
    first = head(engine, pooled[0])
    copies = [each.clone() for each in first]
    head(engine, pooled[1])
    assert all(torch.equal(each, copy) for each, copy in zip(first, copies, strict=True))


def test_an_answer_outlives_its_engine(cache: Path) -> None:
    chosen = build(cache)
    found = dense(chosen, canvases(*SHAPES[0]))
    copies = [level.clone() for level in found]
    del chosen
    gc.collect()
    assert all(torch.equal(level, copy) for level, copy in zip(found, copies, strict=True))


def test_threads_are_those_asked_for(cache: Path) -> None:
    before = torch.get_num_threads()
    try:
        chosen = build_engine(random_network(), EngineChoice("cpu", "openvino", threads=1, cache_dir=cache))
        assert chosen._dense.get_property("INFERENCE_NUM_THREADS") == 1  # type: ignore[attr-defined]  # the engine's own
        chosen = build_engine(random_network(), EngineChoice("cpu", "openvino", threads=2, cache_dir=cache))
        assert torch.get_num_threads() == 1  # torch's own would spin on the cores that OpenVINO computes on
    finally:
        torch.set_num_threads(before)


def test_bf16_is_computed_where_asked_for_and_the_cpu_can(engine: Engine, cache: Path) -> None:
    from models.engines.openvino_engine import has_bf16

    if not has_bf16():
        with pytest.raises(EngineUnavailable, match="no bf16"):
            build(cache, precision="bf16")
        return
    exact, rough = (dense(one, canvases(*SHAPES[2]))[0] for one in (engine, build(cache, precision="bf16")))
    difference = float((exact - rough).abs().max() / exact.abs().max())
    assert 1e-4 < difference < 0.1


def conversions(cache: Path) -> set[Path]:
    return set((cache / "openvino").iterdir())


def test_a_converted_network_is_cached_and_read_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = build(cache)
    kept = conversions(cache)
    written = {path: path.stat().st_mtime_ns for folder in kept for path in folder.iterdir()}
    again = build(cache)
    assert conversions(cache) == kept
    assert {path: path.stat().st_mtime_ns for folder in kept for path in folder.iterdir()} == written
    for one, other in zip(
        dense(first, canvases(*SHAPES[0])), dense(again, canvases(*SHAPES[0])), strict=True
    ):
        assert torch.equal(one, other)
    assert not caplog.records


def test_equal_networks_share_what_is_compiled_and_others_do_not(tmp_path: Path) -> None:
    first, same, other = build(tmp_path), build(tmp_path), build(tmp_path, seed=4)
    assert same._compiled is first._compiled  # type: ignore[attr-defined]  # of OpenVINO's engine alone
    assert other._compiled is not first._compiled  # type: ignore[attr-defined]  # as above
    one, two = dense(first, canvases(*SHAPES[0])), dense(same, canvases(*SHAPES[0]))
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in zip(one, two, strict=True))


def test_other_weights_never_use_stale_parts(tmp_path: Path) -> None:
    """One weight of the last layer differs."""
    network = random_network()
    choice = EngineChoice("cpu", "openvino", cache_dir=tmp_path)
    pooled = torch.randn(2, CHANNELS, SIDE, SIDE)
    before = head(build_engine(network, choice), pooled)[0]
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.bias[1] += 1
    after = head(build_engine(network, choice), pooled)[0]
    assert len(conversions(tmp_path)) == 2
    torch.testing.assert_close(after[:, 1], before[:, 1] + 1)


def test_a_norms_epsilon_is_part_of_the_cache_key(tmp_path: Path) -> None:
    """It is no weight, and torchvision's first published weights have one of their own."""
    network = random_network()
    for epsilon in (1e-5, 0.5):
        for module in network.backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = epsilon
        build_engine(network, EngineChoice("cpu", "openvino", cache_dir=tmp_path))
    assert len(conversions(tmp_path)) == 2


@pytest.mark.parametrize("name", ["dense.xml", "dense.bin", "head.bin"])
def test_a_damaged_cache_entry_is_converted_again(
    cache: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path)
    [folder] = conversions(tmp_path)
    whole = (folder / name).stat().st_size
    (folder / name).write_bytes((folder / name).read_bytes()[: whole // 2])
    repaired, sound = build(tmp_path), build(cache)
    assert (folder / name).stat().st_size > 0.9 * whole
    assert "converting the network again" in caplog.text
    assert torch.equal(dense(repaired, canvases(*SHAPES[0]))[0], dense(sound, canvases(*SHAPES[0]))[0])


def test_without_a_usable_cache_the_engine_still_runs(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    chosen = build(tmp_path / "file")
    assert "could not be cached" in caplog.text
    ours, expected = dense(chosen, canvases(*SHAPES[0]))[0], dense(engine, canvases(*SHAPES[0]))[0]
    torch.testing.assert_close(ours, expected)


def test_the_least_recently_used_conversion_is_evicted(tmp_path: Path) -> None:
    from models.engines.part_cache import MAX_ENTRIES

    (tmp_path / "openvino").mkdir()
    for k in range(MAX_ENTRIES):
        (tmp_path / "openvino" / f"old{k}").mkdir()
    build(tmp_path)
    assert len(conversions(tmp_path)) == MAX_ENTRIES
    assert any((folder / "dense.xml").exists() for folder in conversions(tmp_path))


def test_the_weights_are_in_memory_once(cache: Path) -> None:
    """torch's copy is gone once the engine has its own."""
    network = random_network()
    weight = weakref.ref(network.backbone.fpn.layer_blocks[0][0].weight)
    engine = build_engine(network, EngineChoice("cpu", "openvino", cache_dir=cache))
    assert weight() is not None
    del network
    gc.collect()
    assert weight() is None
    assert len(dense(engine, canvases(*SHAPES[0]))) == 12


def test_the_bundled_model_runs_on_it_in_fp32_and_int8(tmp_path: Path) -> None:
    """int8 answers much as fp32 does, and not the same: it is really int8."""
    from models.images.decoder import Image
    from models.options import Options
    from models.shapes.scenes import draw_scene

    spec = {"model": "shapes", "cache_dir": tmp_path, "device": "cpu"}
    exact, rough = (load_detector(DetectorSpec(**spec, precision=p)) for p in ("fp32", "int8"))
    assert (exact.engine_name, exact.precision) == ("openvino", "fp32")
    assert (rough.engine_name, rough.precision) == ("openvino", "int8")
    scene, options = Image(draw_scene(2, 0).pixels, "PNG"), Options(0.5, 0.5, 100)
    ours, theirs = (detect(one, scene, options=options)[0] for one in (exact, rough))
    assert len(ours) == len(theirs) > 2
    order, other = np.lexsort(ours.boxes.round(-1).T), np.lexsort(theirs.boxes.round(-1).T)
    np.testing.assert_array_equal(ours.labels[order], theirs.labels[other])
    assert 0 < np.abs(ours.scores[order] - theirs.scores[other]).max() < 0.1


def test_without_openvino_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    import models.engines.choice as choice

    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    assert build(engine="auto").name == "torch"
    with pytest.raises(EngineUnavailable, match=r"rcnn-serve\[cpu\]"):
        build(engine="openvino")


def test_openvino_sends_no_telemetry(tmp_path: Path) -> None:
    """OpenVINO by itself sends an event at its import, and leaves a client's id in the home folder."""
    code = (
        "import sys; from pathlib import Path; from tests.models.engines.test_openvino_engine import build; "
        "build(Path(sys.argv[1])); print(sys.modules['openvino_telemetry'])"
    )
    done = python(code, str(tmp_path / "cache"), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "None"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
