"""Pictures of a scene: what the satellite saw, what each system made of it, the truth, and the errors."""

import base64
import io
import math
from typing import NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from PIL import Image

from spinet_tf.data.scene import clear_fraction

# Colours that readers who see no difference between red and green can tell apart.
CLASS_COLOURS = {"not cultivated": "#e3e8dc", "cultivated": "#a8581c", "unknown": "#ffffff"}
ERROR_COLOURS = {
    "rightly not cultivated": "#ecefe8",
    "rightly cultivated": "#b9a98f",
    "wrongly cultivated (false positive)": "#d7301f",
    "missed (false negative)": "#2166ac",
    "unknown": "#ffffff",
}
PROBABILITY_COLOURS = "viridis"
UNCERTAINTY_COLOURS = "magma"
UNSEEN_COLOUR = "#ffffff"

# Longer sides are thinned out, so that a report of ten scenes of the challenge stays below 5 MB.
_LONGEST_SIDE = 700
_PHOTO_SIDE = 500


class Picture(NamedTuple):
    """A picture and what it shows."""

    title: str
    image: Image.Image


def scene_pictures(
    scene: xr.Dataset, probability: np.ndarray, threshold: float, ndvi_map: np.ndarray | None, model: str
) -> list[Picture]:
    """Draw a scene: true colour, truth, NDVI's map where there is one, probability, map, and errors.

    Args:
        scene: a labelled scene.
        probability: (height, width) on the label's grid, 0 to 1, NaN where unknown.
        threshold: above which the map calls land cultivated.
        ndvi_map: bool (height, width), the baseline's map, or None.
        model: the model's name, for the titles.

    Returns:
        Five or six pictures, in the order in which they are best looked at.

    Example:
        scene_pictures(scene, probability, 0.5, None, "SPInet")[0].image.save("true_colour.png")
    """
    label = scene["label"].to_numpy()
    colours, frame = true_colour(scene)
    cultivated = probability > threshold
    pictures = [
        Picture(f"True colour, {frame}", photo(colours)),
        Picture("Truth", class_picture(np.where(label == 255, 2, label == 1), CLASS_COLOURS)),
        Picture(f"Probability, {model}", probability_picture(probability)),
        Picture(f"Map, {model} at {threshold:g}", class_picture(cultivated, CLASS_COLOURS)),
        Picture(f"Errors, {model} at {threshold:g}", class_picture(error_classes(label, cultivated), ERROR_COLOURS)),
    ]
    if ndvi_map is not None:
        pictures.insert(2, Picture("Map, NDVI thresholds", class_picture(ndvi_map, CLASS_COLOURS)))
    return pictures


def true_colour(scene: xr.Dataset) -> tuple[np.ndarray, str]:
    """The clearest frame in red, green and blue, 0 to 1, and its date; without those bands, the first band in grey."""
    clear = clear_fraction(scene)
    # Of equally clear ones that in the middle, when most is green.
    clearest = np.flatnonzero(clear == clear.max())
    frame = int(clearest[len(clearest) // 2])
    names = [str(name) for name in scene["band"].values]
    shown = [names.index(name) for name in ("B04", "B03", "B02") if name in names]
    shown = shown if len(shown) == 3 else [0, 0, 0]
    image = scene["bands"].variable[frame].to_numpy()[shown].astype("float32").transpose(1, 2, 0)
    dark, bright = np.percentile(image, (1, 99))
    date = str(scene["time"].values[frame])[:10] if "time" in scene.coords else f"frame {frame}"
    return np.clip((image - dark) / max(bright - dark, 1), 0, 1), date


def error_classes(label: np.ndarray, cultivated: np.ndarray) -> np.ndarray:
    """Which of `ERROR_COLOURS` each pixel of a map has: uint8 (height, width)."""
    # 0 and 3 are not called cultivated, 1 and 2 are.
    classes = np.where(cultivated, np.where(label == 1, 1, 2), np.where(label == 1, 3, 0))
    return np.where(label == 255, 4, classes).astype("uint8")


def photo(colours: np.ndarray) -> Image.Image:
    """Red, green and blue, float (height, width, 3), 0 to 1, as a picture."""
    image = Image.fromarray((255 * colours).astype("uint8"))
    image.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE))
    return image


def class_picture(classes: np.ndarray, colours: dict[str, str]) -> Image.Image:
    """Numbers of classes, (height, width), as a picture in the colours of that order."""
    image = Image.fromarray(_thinned(classes, _LONGEST_SIDE).astype("uint8"))
    image.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in colours.values()))
    return image


def uncertainty_picture(uncertainty: xr.DataArray) -> Picture:
    """The uncertainty of a map, (height, width), 0 to 1, under the name that it has."""
    title = f"Uncertainty: {uncertainty.attrs['long_name']}"
    return Picture(title, probability_picture(uncertainty.to_numpy(), UNCERTAINTY_COLOURS))


def probability_picture(probability: np.ndarray, colours_of: str = PROBABILITY_COLOURS) -> Image.Image:
    """A probability, (height, width), as a picture; white where it is NaN."""
    colours = matplotlib.colormaps[colours_of].with_extremes(bad=UNSEEN_COLOUR)
    return Image.fromarray(colours(_thinned(probability, _PHOTO_SIDE), bytes=True)).convert("RGB")


def data_uri(image: Image.Image) -> str:
    """The picture as the address of an HTML <img>: JPEG for a photo of some size, PNG for everything else."""
    stream = io.BytesIO()
    # JPEG's blocks of 8 pixels would show in small pictures, and blur borders of classes.
    lossy = image.mode == "RGB" and max(image.size) > 128
    kind = "JPEG" if lossy else "PNG"
    image.save(stream, kind, **({"quality": 80} if lossy else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _thinned(values: np.ndarray, longest: int) -> np.ndarray:
    step = math.ceil(max(values.shape) / longest)
    return values[::step, ::step]
