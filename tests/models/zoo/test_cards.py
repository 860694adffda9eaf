"""Cards and the catalogue: what a card may say, and how a wrong one is refused."""

from pathlib import Path

import pytest

from models.zoo.cards import CARD_KEYS, Card, CardError, read_card
from models.zoo.catalogue import ZOO, catalogue, find_card, read_cards
from models.zoo.coco_labels import COCO_LABELS
from models.zoo.download import sha256_of
from models.zoo.weights import published_file

PUBLISHED = ("coco-mobilenet-320-fpn", "coco-mobilenet-fpn", "coco-r50-fpn", "coco-r50-fpn-v2")

MINIMAL = {
    "name": '"mine"',
    "architecture": '"small"',
    "weights": '"file:mine.safetensors"',
    "labels": '["background", "cat", "dog"]',
}


def write_card(folder: Path, file_name: str = "mine.toml", /, **changes: str | None) -> Path:
    """Write a valid card with some keys changed (TOML text) or left out (None)."""
    keys = {**MINIMAL, **changes}
    path = folder / file_name
    path.write_text("".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None))
    return path


def test_a_minimal_card_has_the_defaults(tmp_path: Path) -> None:
    card = read_card(write_card(tmp_path))
    assert card.labels == ("background", "cat", "dog")
    assert (card.score_threshold, card.nms_threshold, card.max_detections) == (0.5, 0.5, 100)
    assert (card.min_size, card.max_size) == (800, 1333)
    assert (card.sha256, card.training) == (None, None)
    assert card.published_weights is None


def test_weights_lie_beside_the_card_wherever_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cards").mkdir()
    write_card(tmp_path / "cards", weights='"file:inner/mine.pt"')
    monkeypatch.chdir(tmp_path)
    card = read_card(Path("cards/mine.toml"))
    monkeypatch.chdir("/")
    assert card.weights_file == tmp_path / "cards" / "inner" / "mine.pt"


def test_a_dumped_card_has_every_key_but_the_path(tmp_path: Path) -> None:
    card = read_card(write_card(tmp_path, training="{ ap = 0.7 }"))
    assert set(card.model_dump()) == set(CARD_KEYS)
    assert str(tmp_path) not in card.model_dump_json()
    assert card.training == {"ap": 0.7}


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"name": None}, ["name: this key is required"]),
        ({"name": '"Mine"'}, ["name:", "[a-z0-9]", "'Mine'"]),
        ({"name": '".mine"'}, ["name:", "[a-z0-9]"]),
        ({"name": '"auto"'}, ["name:", "reserved"]),
        ({"architecture": "3"}, ["architecture:", "string"]),
        (
            {"weights": '"ftp://example.org/x.pth"'},
            ["weights:", "torchvision:", "file:", "https://", "s3://"],
        ),
        ({"weights": '"http://example.org/x.pth"'}, ["changed on the way", "sha256", "https://"]),
        ({"weights": '"https://example.org"'}, ["weights:", "https://HOST/PATH"]),
        ({"weights": '"https://me:secret@example.org/x.pth"'}, ["weights:", "user or password"]),
        ({"weights": '"https://example.org/x y.pth"'}, ["weights:", "https://HOST/PATH"]),
        ({"weights": '"hf://crab/x.pth"'}, ["weights:", "hf://OWNER/REPO[@REVISION]/FILE"]),
        ({"weights": '"hf://crab/sea/../x.pth"'}, ["weights:", "hf://OWNER/REPO"]),
        ({"weights": '"s3://bucket"'}, ["weights:", "s3://BUCKET/KEY"]),
        ({"weights": '"torchvision:FasterRCNN_ResNet50_FPN_Weights"'}, ["weights:", "ENUM.MEMBER"]),
        ({"weights": '"file:/etc/x.pt"'}, ["weights:", "relative", "beside the card"]),
        ({"weights": '"file:../x.pt"'}, ["weights:", "may not leave"]),
        ({"weights": '"file:a/../../x.pt"'}, ["weights:", "may not leave"]),
        ({"weights": r"'file:..\x.pt'"}, ["weights:", "may not leave"]),
        ({"weights": r"'file:C:\x.pt'"}, ["weights:", "may not leave"]),
        ({"weights": '"file:x.bin"'}, ["weights:", ".safetensors, .pt, .pth"]),
        ({"weights": '"file:"'}, ["weights:", ".safetensors, .pt, .pth"]),
        ({"weights": '"random:"'}, ["weights:", "whole number"]),
        ({"weights": '"random:-1"'}, ["weights:", "whole number"]),
        ({"weights": '"random:one"'}, ["weights:", "whole number"]),
        ({"weights": '"random:1.5"'}, ["weights:", "whole number"]),
        ({"weights": '"random:\\u00b2"'}, ["weights:", "whole number"]),
        ({"sha256": '"abc"'}, ["sha256:", "{64}"]),
        ({"labels": "[]"}, ["labels:", "at least 2"]),
        ({"labels": '["background"]'}, ["labels:", "at least 2"]),
        ({"labels": '["cat", "dog"]'}, ["labels:", '"background"']),
        ({"labels": '["background", "cat", "cat"]'}, ["labels:", "unique", "repeated: cat"]),
        ({"labels": '["background", " "]'}, ["labels:", "may not be empty"]),
        ({"labels": '["background", 1]'}, ["labels.1:", "string"]),
        ({"labels": '"voc"'}, ["labels:", '"coco"', "'voc'"]),
        ({"score_threshold": "1.01"}, ["score_threshold:", "less than or equal to 1", "1.01"]),
        ({"score_threshold": "nan"}, ["score_threshold:"]),
        ({"nms_threshold": "-0.1"}, ["nms_threshold:", "greater than or equal to 0"]),
        ({"max_detections": "0"}, ["max_detections:", "greater than or equal to 1"]),
        ({"max_detections": "1001"}, ["max_detections:", "less than or equal to 1000"]),
        ({"max_detections": "true"}, ["max_detections:", "integer"]),
        ({"min_size": "63"}, ["min_size:", "greater than or equal to 64"]),
        ({"min_size": "8193", "max_size": "8192"}, ["min_size:", "less than or equal to 8192"]),
        ({"min_size": '"800"'}, ["min_size:", "integer"]),
        ({"min_size": "800", "max_size": "799"}, ["max_size (799)", "at least min_size (800)"]),
        ({"thresold": "0.5"}, ["unknown key thresold", "score_threshold", "max_size"]),
        ({"path": '"/etc"'}, ["unknown key path", "a card may have name"]),
        ({"name": "mine"}, ["not valid TOML", "line 1"]),
    ],
)
def test_a_wrong_card_is_refused_naming_file_key_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, str | None], fragments: list[str]
) -> None:
    path = write_card(tmp_path, **changes)
    with pytest.raises(CardError) as refusal:
        read_card(path)
    for fragment in (str(path), *fragments):
        assert fragment in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"score_threshold": "0", "nms_threshold": "1.0", "max_detections": "1000"},
        {"min_size": "64", "max_size": "64"},
        {"min_size": "8192", "max_size": "8192"},
        {"labels": '["background", "N/A", "cat", "N/A"]'},
        {"name": '"0a.b_c-d"'},
        {"sha256": f'"{"0f" * 32}"'},
        {"weights": '"http://example.org/x.pth"', "sha256": f'"{"0f" * 32}"'},
        {"weights": '"https://example.org:8443/get?file=x.pth&key=a%2Fb"'},
        {"weights": '"hf://crab/sea@v1.0/folder/x.safetensors"'},
        {"weights": '"s3://bucket.name/folder/x.pth"'},
    ],
)
def test_the_edges_of_what_is_allowed_are_accepted(tmp_path: Path, changes: dict[str, str | None]) -> None:
    assert isinstance(read_card(write_card(tmp_path, **changes)), Card)


def test_every_fault_of_a_card_is_named_at_once(tmp_path: Path) -> None:
    path = write_card(tmp_path, min_size="1", max_detections="0")
    with pytest.raises(CardError, match=r"max_detections:.*min_size:"):
        read_card(path)


def test_an_unreadable_card_says_why(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"absent\.toml: the card cannot be read: No such file"):
        read_card(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(CardError, match=r"latin\.toml: not UTF-8"):
        read_card(tmp_path / "latin.toml")


def test_the_coco_labels_are_torchvisions() -> None:
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    published = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    assert published[0] == "__background__"
    assert ("background", *published[1:]) == COCO_LABELS


def test_the_zoo_holds_the_published_models_under_their_file_names() -> None:
    from models.networks import ARCHITECTURES

    cards = catalogue(None)
    assert set(PUBLISHED) <= set(cards)
    for name, card in cards.items():
        assert card.path == ZOO / f"{name}.toml"
        assert card.architecture in ARCHITECTURES


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_card_says_what_torchvision_says(name: str) -> None:
    from torchvision.models import get_weight

    card = find_card(name, None)
    weights = get_weight(str(card.published_weights))
    assert weights.name == "COCO_V1"
    assert card.labels == ("background", *weights.meta["categories"][1:])
    assert card.weights_file is None
    assert card.training is not None
    published_ap = weights.meta["_metrics"]["COCO-val2017"]["box_map"]
    assert card.training["published_ap"] == pytest.approx(published_ap / 100)
    assert (card.min_size, card.max_size) == ((320, 640) if "320" in name else (800, 1333))


def test_a_users_folder_adds_to_the_zoo(tmp_path: Path) -> None:
    write_card(tmp_path)
    assert set(catalogue(tmp_path)) == {*catalogue(None), "mine"}
    assert find_card("mine", tmp_path).labels[1] == "cat"


def test_an_unknown_model_is_refused_with_the_known_names(tmp_path: Path) -> None:
    write_card(tmp_path)
    with pytest.raises(CardError, match=r"unknown model 'yolo'.*coco-r50-fpn.*mine.*\.toml"):
        find_card("yolo", tmp_path)


def test_a_users_card_may_not_take_a_name_of_the_zoo_or_of_another(tmp_path: Path) -> None:
    other = write_card(tmp_path, "a.toml", name='"coco-r50-fpn"')
    found = read_cards(tmp_path)
    assert found.by_name == catalogue(None)
    assert "already has the name 'coco-r50-fpn'" in found.faults[other]
    other.unlink()
    write_card(tmp_path, "b.toml")
    second = write_card(tmp_path, "c.toml")
    found = read_cards(tmp_path)
    assert found.by_name["mine"].path == tmp_path / "b.toml"
    assert f"{second}: {tmp_path / 'b.toml'} already has the name 'mine'" in found.faults[second]


def test_a_broken_card_blocks_no_other_and_is_named_where_it_may_be_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_card(tmp_path)
    write_card(tmp_path, "broken.toml", min_size="1")
    assert find_card("mine", tmp_path).name == "mine"
    assert set(catalogue(tmp_path)) == {*catalogue(None), "mine"}
    assert set(catalogue(tmp_path)) == {*catalogue(None), "mine"}
    assert caplog.text.count("broken.toml: min_size") == 1, "logged once, not with every request"
    with pytest.raises(CardError, match=r"unknown model 'broken'.*left out: .*broken\.toml: min_size"):
        find_card("broken", tmp_path)


def test_a_model_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"RCNN_MODEL_DIR is .*absent, which is not a folder"):
        catalogue(tmp_path / "absent")


def test_every_card_of_the_zoo_has_the_hash_of_its_weights() -> None:
    for card in catalogue(None).values():
        source = published_file(card)
        if source is not None:
            assert len(source.sha256) >= 8  # of torchvision's file name
        elif card.weights_file is not None:
            assert card.sha256 == sha256_of(card.weights_file)


def test_the_catalogue_has_what_train_wrote_into_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_card(tmp_path / "run", "model.toml", name='"trained"')
    write_card(tmp_path / "run", "other.toml", name='"other"')
    names = set(catalogue(tmp_path))
    assert names & {"trained", "other"} == {"trained"}
