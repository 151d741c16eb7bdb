"""Where an image shows clear ground."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Sen2Cor classes of clear ground: vegetation, bare, water, unclassified. The last is doubtful: it holds what the others
# do not fit, haze at times.
# https://sentiwiki.copernicus.eu/web/s2-processing
CLEAR_CLASSES = (4, 5, 6, 7)


def clear_ground(data: Any, masks: Mapping[str, Any]) -> Any:
    """Where an image shows clear ground.

    Args:
        data: bool, where it holds data at all.
        masks: any of "SCL", Sen2Cor's scene classification; "CLM", s2cloudless' mask, of which 0 is clear and 255 no
            data; "VALID", not 0 where the image may be used. One that is absent excludes nothing.

    Returns:
        bool, of the same shape.

    Example:
        >>> clear_ground(np.array([True, True]), {"SCL": np.array([4, 9])})
        array([ True, False])
    """
    if "VALID" in masks:
        data = data & (masks["VALID"] != 0)
    if "CLM" in masks:
        data = data & (masks["CLM"] == 0)
    if "SCL" in masks:
        data = data & np.isin(masks["SCL"], CLEAR_CLASSES)
    return data
