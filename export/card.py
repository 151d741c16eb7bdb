"""A model card: what somebody who finds a SavedModel needs to know before using it."""

import json

from export.facts import Facts
from export.graph import UINT8_SCALE
from spinet_tf.bands import QUANTIFICATION

FILE = "README.md"

TEMPLATE = """\
# {name}, version {version}

{architecture} maps the probability of cultivated land from a series of Sentinel-2 L2A images. It is exported for
TensorFlow Serving; anything that runs a SavedModel runs it.{paper}

| | |
|---|---|
| bands | {bands} |
| frames | {frames} |
| output | {scale} times finer than the images: {scale} x height, {scale} x width |
| parameters | {trainable:,} trainable, {total:,} in all |
| precision | float32 |
| made with | {software} |

## How to ask it

The signature `serving_default` takes

- `images` uint16 (batch, time, height, width, bands): digital numbers, reflectance = DN / {quantification}, with every
  radiometric offset already applied;
- `num_frames` int32 (batch,): how many of the `time` frames are real, the first ones;

and gives `probabilities` float32 (batch, {scale} height, {scale} width, 1).

The signature `uint8` takes the same and gives round(p x {levels}) as uint8: p = value / {levels}, {half} is one half,
and 255 never occurs and can stand for nodata.

{uncertainty}{means}The signature `describe` takes `request` int32 (n,), any numbers, and gives `bands` string
(n, bands) and `scale` int32 (n,).

A request that cannot be answered is refused with INVALID_ARGUMENT and a message that says what was expected.

## Limits

- It answers for every pixel, also where no image shows ground: mask what was never seen.
- Frames that are mostly cloud, or padding, cost accuracy: leave them out, and count only real ones in `num_frames`.
- {tiles}
- It knows the land, the season and the labels that it was trained on, and no others: score it on your own labels first.

## Settings

```json
{settings}
```
"""

MEANS = """\
The signature `means` takes the same as `serving_default` and gives `block_means` float32 (batch, blocks, filters) and
`frame_means` float32 (batch, time, filters), the means that the network takes over each tile. `with_means` takes those
two besides, from the whole scene for example, and gives `probabilities`; where they are NaN, it takes the tile's own.

"""
UNCERTAINTY = """\
Both, and `with_means`, also give `uncertainty`, shaped and stored like the probabilities: their standard deviation, 0
to 0.5, for the doubt that neighbouring pixels share.

"""
SHARED = "The network takes means over the whole tile: let tiles overlap and share the means of their scene."
OWN = "A network may take means over the whole tile, so a map depends a little on its tiles: let them overlap."


def model_card(facts: Facts) -> str:
    """Write the card.

    Args:
        facts: of the version.

    Returns:
        Markdown.

    Example:
        model_card(gather_facts(Exportable(model), "spinet", 1))
    """
    unnamed = f"{facts.bands}, in the order of the training, which gave them no names"
    trainable, total = facts.parameters
    text = TEMPLATE.format(
        name=facts.name,
        version=facts.version,
        architecture=facts.architecture,
        bands=unnamed if facts.band_names is None else f"{facts.bands}, in this order: {' '.join(facts.band_names)}",
        frames="any number" if facts.frames is None else f"exactly {facts.frames}",
        paper="" if facts.paper is None else f" The network: {facts.paper}",
        scale=facts.scale,
        trainable=trainable,
        total=total,
        software=", ".join(f"{package} {version}" for package, version in facts.software.items()),
        quantification=QUANTIFICATION,
        levels=UINT8_SCALE,
        half=UINT8_SCALE // 2,
        uncertainty=UNCERTAINTY if facts.gives_uncertainty else "",
        means=MEANS if facts.takes_means else "",
        tiles=SHARED if facts.takes_means else OWN,
        settings=json.dumps(facts.settings, indent=2),
    )
    unknown = "Not recorded: no configuration lay beside the model."
    text += "\n## Training\n\n" + (unknown if facts.training is None else f"```yaml\n{facts.training}\n```") + "\n"
    return text + "\n## Scores\n\n" + (facts.scores or "Not recorded: no evaluation was found.") + "\n"
