"""The AI4EO "Enhanced Sentinel-2 Agriculture" challenge's weight of each label pixel in its score."""

import numpy as np
from scipy import ndimage, stats

from spinet_tf.errors import SpinetError

# Parcels of fewer pixels weigh more than 1, by a skew-normal density of their size.
_SMALL = 400
_DENSITY = stats.skewnorm.pdf(np.arange(1, _SMALL + 1), 15, loc=35 - 100 / 3.14, scale=100)
_EXTRA = _DENSITY / _DENSITY.max()

# A contour is what a disk of radius 2 adds to a parcel: steps from a contour pixel to the parcel's.
_STEPS = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if 0 < y * y + x * x <= 4]


def weight_map(cultivated: np.ndarray, not_declared: np.ndarray) -> np.ndarray:
    """Weigh each pixel as the challenge's score does: small parcels and the contours of parcels count more.

    A parcel is an 8-connected component of `cultivated`. One of fewer than 400 pixels weighs 1 to 2 by its size, a
    larger one 1. Its contour, two pixels wide, weighs twice that, averaged where contours of several parcels overlap.
    Background weighs 1. What nobody declared weighs 0, and so do the first row and column and the last two rows and
    columns.

    Args:
        cultivated: bool (height, width), the mask CULTIVATED at 2.5 m.
        not_declared: bool (height, width), the mask NOT_DECLARED.

    Returns:
        float32 (height, width), the weight of each pixel.

    Raises:
        SpinetError: if the masks are not two-dimensional and of one shape.

    Example:
        weights = weight_map(cultivated, not_declared)
        sklearn.metrics.matthews_corrcoef(cultivated.ravel(), predicted.ravel(), sample_weight=weights.ravel())

    Reference: the challenge's scoring, https://platform.ai4eo.eu/enhanced-sentinel2-agriculture-permanent
    """
    cultivated, not_declared = np.asarray(cultivated, bool), np.asarray(not_declared, bool)
    if cultivated.ndim != 2 or cultivated.shape != not_declared.shape:
        raise SpinetError(
            "Expected CULTIVATED and NOT_DECLARED as (height, width) of one shape. "
            f"Received: {cultivated.shape} and {not_declared.shape}"
        )
    height, width = cultivated.shape
    parcels, count = ndimage.label(cultivated, structure=np.ones((3, 3)))
    sizes = np.bincount(parcels.ravel(), minlength=count + 1)
    parcel_weights = 1 + np.append(_EXTRA, 0)[np.minimum(sizes, _SMALL)]
    parcel_weights[0] = 1
    weights = parcel_weights[parcels]

    # The parcels around each background pixel near one, as a row of labels in which 0 is background.
    near = np.zeros((5, 5), bool)
    near[2, 2] = True
    for y, x in _STEPS:
        near[2 + y, 2 + x] = True
    rows, columns = np.nonzero(ndimage.binary_dilation(cultivated, near) & ~cultivated)
    padded = np.pad(parcels, 2)
    around = np.stack([padded[rows + 2 + y, columns + 2 + x] for y, x in _STEPS], axis=-1)
    around.sort(axis=-1)
    # Each parcel counts once, however many of its pixels are near.
    first = around > 0
    first[:, 1:] &= around[:, 1:] != around[:, :-1]
    weights[rows, columns] = 2 * np.sum(parcel_weights[around] * first, axis=-1) / np.sum(first, axis=-1)

    weights[not_declared] = 0
    weights[:1] = weights[max(height - 2, 0) :] = 0
    weights[:, :1] = weights[:, max(width - 2, 0) :] = 0
    return weights.astype("float32")


def label_weights(label: np.ndarray) -> np.ndarray:
    """Weigh the pixels of a scene's label as `weight_map` does; unknown ones weigh 0.

    Args:
        label: uint8 (height, width), 1 cultivated, 0 not, 255 unknown.

    Returns:
        float32 (height, width), the weight of each pixel.

    Example:
        weights = label_weights(scene["label"].values)
    """
    return weight_map(label == 1, label == 255)
