"""One look at every scene before training: can it be used, and how bright are its bands?"""

import dataclasses

import numpy as np

from spinet_tf.data.patches import label_scale, labelled
from spinet_tf.data.scene import require_valid_frames
from spinet_tf.errors import SpinetError
from spinet_tf.progress import track
from training.config import Config
from training.moments import Moments
from training.split import Split


@dataclasses.dataclass(frozen=True)
class Survey:
    """What training needs to know about the scenes.

    Attributes:
        bands: names of the bands, in the model's order.
        scale: how many times finer labels are than images.
        smallest: the smallest side of any part, in pixels of the images.
        pixels: pixels of the images of all training parts together.
        frames: the most frames with clear ground that any training part has.
        mean: of each band over the valid pixels of the training parts, reflectance.
        std: standard deviation, likewise.
    """

    bands: tuple[str, ...]
    scale: int
    smallest: int
    pixels: int
    frames: int
    mean: list[float]
    std: list[float]


def survey_scenes(split: Split, config: Config) -> Survey:
    """Open every scene once: check that it can be used, and measure the bands of those that train.

    Args:
        split: what trains and what validates. Nothing that validates enters the statistics.
        config: names the bands and the weights.

    Returns:
        What was found.

    Raises:
        SpinetError: if a scene lacks a label, a band or a valid frame, or labels are not equally fine everywhere.
    """
    bands = config.bands
    names, sides, scales = [], [], []
    moments = []
    pixels = most = 0
    parts = [*split.training, *split.validation]
    for number, part in enumerate(track(parts, "Looking at the scenes", len(parts))):
        scene = labelled(part(), bands, config.weights)
        require_valid_frames(scene)
        bands = tuple(map(str, scene["band"].values))
        names.append(scene.attrs["name"])
        sides += [scene.sizes["y"], scene.sizes["x"]]
        scales.append(label_scale(scene))
        if scales[-1] != scales[0]:
            raise SpinetError(
                f"Expected labels {scales[0]} times finer than images, as in {names[0]}. "
                f"{names[-1]}: {scales[-1]} times"
            )
        if number < len(split.training):
            valid = scene["valid"].to_numpy()
            frames = np.flatnonzero(valid.any(axis=(1, 2)))
            pixels += scene.sizes["y"] * scene.sizes["x"]
            most = max(most, frames.size)
            moments += [Moments.of(scene["bands"].variable[frame].to_numpy(), valid[frame]) for frame in frames]
    mean, std = Moments.sum(moments).statistics()
    return Survey(bands or (), scales[0], min(sides), pixels, most, mean, std)
