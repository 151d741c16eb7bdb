"""One picture of a scene: what the satellite saw, what each system made of it, and the truth."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from spinet_tf.data.scene import clear_fraction
from spinet_tf.files import replacing
from training.scores import SceneScores

_COLOURS = {"not cultivated": "#d9e2d0", "cultivated": "#b5651d", "unknown": "#ffffff"}
_CLASSES = ListedColormap(list(_COLOURS.values()))


def write_picture(
    path: Path,
    scene: xr.Dataset,
    scores: SceneScores,
    ndvi: np.ndarray,
    ndvi_map: np.ndarray,
    probability: np.ndarray,
    model_map: np.ndarray,
) -> None:
    """Write a PNG of six panels: true colour, NDVI and its map, probability and the model's map, truth.

    Args:
        path: the file; an existing one is replaced.
        scene: a labelled scene.
        scores: what the titles say.
        ndvi: the mean NDVI.
        ndvi_map: bool, the baseline's map.
        probability: the model's, 0 to 1, NaN where unknown.
        model_map: bool, the model's map.
    """
    height, width = scene["label"].shape
    # Panels keep the scene's proportions, within reason.
    figure = Figure(figsize=(13, 1.2 + 8.4 * np.clip(height / width, 0.4, 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).T.ravel()
    extent = (0, width, height, 0)

    colours, frame = true_colour(scene)
    axes[0].imshow(colours, extent=extent, interpolation="nearest")
    axes[0].set_title(f"{scores.scene}\ntrue colour, {frame}")
    _show_classes(axes[1], np.where(scene["label"] == 255, 2, scene["label"]), "truth")
    _show_values(figure, axes[2], ndvi, "mean NDVI of the clear frames, bicubic", "RdYlGn", -0.2, 1)
    _show_classes(
        axes[3], ndvi_map, f"NDVI thresholds\nMCC {scores.ndvi.mcc:.3f}, weighted {scores.ndvi.weighted_mcc:.3f}"
    )
    _show_values(figure, axes[4], probability, "SPInet, probability of cultivated land", "viridis", 0, 1)
    _show_classes(axes[5], model_map, f"SPInet\nMCC {scores.model.mcc:.3f}, weighted {scores.model.weighted_mcc:.3f}")
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    handles = [Patch(facecolor=colour, edgecolor="black", label=name) for name, colour in _COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)


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


def _show_values(figure, axis, values, title, colours, low, high):
    shown = axis.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    figure.colorbar(shown, ax=axis, shrink=0.7)
    axis.set_title(title)


def _show_classes(axis, classes, title):
    axis.imshow(classes, cmap=_CLASSES, vmin=0, vmax=2, interpolation="nearest")
    axis.set_title(title)
