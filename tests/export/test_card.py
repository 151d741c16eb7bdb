"""The model card and the STAC item say what the model is, and where they cannot know, that they do not."""

import dataclasses
import json
import re

import pytest

from export.card import model_card
from export.facts import gather_facts
from export.graph import Exportable
from export.stac import stac_item
from spinet_tf.errors import SpinetError
from tests.export.conftest import BANDS


@pytest.fixture
def facts(model):
    return gather_facts(Exportable(model), "spinet", 2)


def test_the_card_has_bands_sizes_training_and_scores(version, model):
    card = (version / "README.md").read_text()
    assert card.startswith("# spinet, version 3\n")
    assert "| bands | 3, in this order: B02 B04 B08 |" in card
    assert "| output | 4 times finer" in card
    trainable = sum(weight.numpy().size for weight in model.trainable_weights)
    total = sum(weight.numpy().size for weight in model.weights)
    assert f"| parameters | {trainable:,} trainable, {total:,} in all |" in card
    assert "```yaml\nepochs: 7\nlearning_rate: 0.003\n```" in card
    assert "| mean | 0.865 |" in card
    assert '"filters": 8' in card
    # Every name and size was filled in.
    assert not re.search(r"\{[a-z]", card)


def test_the_card_says_what_is_not_known(facts):
    card = model_card(dataclasses.replace(facts, band_names=None, frames=9))
    assert "| bands | 3, in the order of the training, which gave them no names |" in card
    assert "| frames | exactly 9 |" in card
    assert "no configuration lay beside the model" in card
    assert "no evaluation was found" in card


def test_scores_from_elsewhere(model, tmp_path):
    (tmp_path / "s.md").write_text("MCC 0.802\n")
    assert gather_facts(Exportable(model), "spinet", 2, scores=tmp_path / "s.md").scores == "MCC 0.802"
    with pytest.raises(SpinetError, match=r"Cannot read .*missing"):
        gather_facts(Exportable(model), "spinet", 2, scores=tmp_path / "missing.md")


def test_the_item_has_what_the_extension_requires(version):
    """The required fields and the patterns of https://github.com/stac-extensions/mlm/tree/v1.4.0 and of STAC 1.1.0."""
    item = json.loads((version / "stac-item.json").read_text())
    assert (item["type"], item["stac_version"], item["id"]) == ("Feature", "1.1.0", "spinet-3")
    assert item["stac_extensions"] == ["https://stac-extensions.github.io/mlm/v1.4.0/schema.json"]
    assert len(item["bbox"]) == 4
    (ring,) = item["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert [min(x for x, _ in ring), min(y for _, y in ring), max(x for x, _ in ring), max(y for _, y in ring)] == (
        item["bbox"]
    )
    assert item["links"] == [
        {"rel": "cite-as", "href": "https://doi.org/10.1109/IGARSS46834.2022.9884811", "type": "text/html"}
    ]

    properties = item["properties"]
    # Without `datetime` an item needs both others.
    assert properties["datetime"] is None
    for name in ("start_datetime", "end_datetime", "created"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", properties[name])
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", properties["mlm:name"])
    assert properties["mlm:architecture"] == "SPInet"
    assert properties["mlm:tasks"] == ["semantic-segmentation", "super-resolution"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["mlm:framework_version"])
    assert properties["mlm:hyperparameters"]["filters"] == 8
    assert "name" not in properties["mlm:hyperparameters"]

    # A model's asset, and no other, has the role and the type of the artifact.
    model, card = item["assets"]["model"], item["assets"]["card"]
    assert "mlm:model" in model["roles"]
    assert model["mlm:artifact_type"]
    assert "mlm:artifact_type" not in card
    for asset in (model, card):
        assert (version / asset["href"]).is_file()
    assert model["bands"] == [{"name": name} for name in BANDS]


def test_the_item_describes_the_signatures(facts):
    properties = stac_item(facts)["properties"]
    images, num_frames = properties["mlm:input"]
    assert images["bands"] == list(BANDS)
    assert images["input"] == {
        "shape": [-1, -1, -1, -1, 3],
        "dim_order": ["batch", "time", "height", "width", "bands"],
        "data_type": "uint16",
    }
    assert num_frames["input"] == {"shape": [-1], "dim_order": ["batch"], "data_type": "int32"}
    assert [output["result"]["data_type"] for output in properties["mlm:output"]] == ["float32", "uint8", "float32"]
    for output in properties["mlm:output"]:
        assert output["result"]["shape"] == [-1, -1, -1, 1]
        assert output["result"]["dim_order"] == ["batch", "height", "width", "channel"]
        assert output["tasks"] == properties["mlm:tasks"]
    fixed = stac_item(dataclasses.replace(facts, frames=9))["properties"]["mlm:input"][0]
    assert fixed["input"]["shape"] == [-1, 9, -1, -1, 3]
