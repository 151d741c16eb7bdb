"""A STAC item with the Machine Learning Model extension: how catalogues describe a model."""

from datetime import UTC, datetime
from typing import Any

import export.card
from export.facts import Facts
from export.graph import UINT8_SCALE
from spinet_tf.bands import QUANTIFICATION

FILE = "stac-item.json"
EXTENSION = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"

TASKS = ["semantic-segmentation", "super-resolution"]


def stac_item(facts: Facts) -> dict[str, Any]:
    """Describe an exported version, with links relative to its folder.

    Where and when the training data was seen is not recorded in a model, so the item spans the world, and the years
    from Sentinel-2's first images on, as the extension's best practices have it for that case.

    Args:
        facts: of the version.

    Returns:
        The item, of numbers, texts, lists and dictionaries.

    Example:
        json.dumps(stac_item(gather_facts(Exportable(model), "spinet", 1)))

    Reference: https://github.com/stac-extensions/mlm/tree/v1.4.0
    """
    west, south, east, north = -180.0, -90.0, 180.0, 90.0
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    names = list(facts.band_names or ())
    properties = {
        "title": f"{facts.name}, version {facts.version}",
        "description": "Probability of cultivated land from a series of Sentinel-2 L2A images, "
        f"{facts.scale} times finer than they are.",
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "datetime": None,
        "start_datetime": "2015-06-23T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "mlm:name": facts.architecture,
        "mlm:architecture": facts.architecture,
        "mlm:tasks": TASKS,
        "mlm:framework": "TensorFlow",
        "mlm:framework_version": facts.software["tensorflow"],
        "mlm:total_parameters": facts.parameters[1],
        "mlm:accelerator": None,
        "mlm:input": [
            {
                "name": "images",
                "description": f"Digital numbers: reflectance x {QUANTIFICATION}, with every radiometric offset "
                "applied. The graph itself scales and normalises them.",
                "bands": names,
                "input": _array([-1, facts.frames or -1, -1, -1, facts.bands], "uint16", "time", "bands"),
                "value_scaling": None,
                "resize_type": None,
            },
            {
                "name": "num_frames",
                "description": "How many of the frames of each sample are real, the first ones.",
                "bands": [],
                "input": {"shape": [-1], "dim_order": ["batch"], "data_type": "int32"},
            },
        ],
        "mlm:output": [
            _output("probabilities (serving_default)", "float32", "Probability that a pixel is cultivated."),
            _output("probabilities (uint8)", "uint8", f"The same, times {UINT8_SCALE} and rounded."),
            *(
                [_output("uncertainty (serving_default)", "float32", "The standard deviation of that probability.")]
                if facts.gives_uncertainty
                else []
            ),
        ],
        "mlm:hyperparameters": facts.settings,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [EXTENSION],
        "id": f"{facts.name}-{facts.version}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": properties,
        "links": [] if facts.paper is None else [{"rel": "cite-as", "href": facts.paper, "type": "text/html"}],
        "assets": {
            "model": {
                "href": "./saved_model.pb",
                "title": "TensorFlow SavedModel: this file and the folder variables beside it",
                "type": "application/octet-stream",
                "roles": ["mlm:model"],
                "mlm:artifact_type": "tf.saved_model.save",
                "bands": [{"name": name} for name in names],
            },
            "card": {
                "href": f"./{export.card.FILE}",
                "title": "Model card",
                "type": "text/markdown",
                "roles": ["metadata"],
            },
        },
    }


def _array(shape, data_type, *others):
    """The structure of a batch of images whose axes besides height and width are `others`."""
    first, last = others[:-1], others[-1]
    return {"shape": shape, "dim_order": ["batch", *first, "height", "width", last], "data_type": data_type}


def _output(name, data_type, description):
    return {
        "name": name,
        "description": description,
        "tasks": TASKS,
        "result": _array([-1, -1, -1, 1], data_type, "channel"),
    }
