"""What STAC metadata say of an image's digital numbers."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.raster import open_raster

# From this processing baseline on, products have an offset.
# https://sentiwiki.copernicus.eu/web/s2-processing
FIRST_BASELINE_WITH_OFFSET = 4.0
OFFSET = -1000.0

# Side of the overview in which numbers below 1000 are counted, and the part of it that proves an applied offset: dark
# water and shadows have a few without it.
_OVERVIEW = 256
_DARK = 0.1

_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINE = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")


def scaling(properties: Mapping[str, Any], asset: Mapping[str, Any], name: str) -> tuple[float | None, float] | None:
    """The gain and shift that make an asset's values digital numbers, as `spinet_tf.data.raster.Layer` has them.

    In this order, since catalogues contradict themselves:

    1. `earthsearch:boa_offset_applied`, where it is true: no offset. Items of Earth Search's `sentinel-2-l2a` with it
       still announce the offset in `raster:bands`; its makers say that the flag is right.
    2. the asset's scale and offset: `raster:bands`, `bands`, or `raster:scale` and `raster:offset` of the asset.
    3. the processing baseline, of the properties or in the product's name: -1000 from 04.00 on, 0 before. Planetary
       Computer, for one, gives nothing else.

    The flag is known to be false, in items of 2022 and 2025, where the offset has been applied nevertheless; see
    `denies_offset` and `shows_applied_offset`.

    Args:
        properties: of the item.
        asset: its fields.
        name: of the item, or of its product.

    Returns:
        Gain (None for 1) and shift; None where nothing says what they are.

    Example:
        >>> scaling({"s2:processing_baseline": "05.09"}, {}, "S2A_MSIL2A")
        (None, -1000.0)

    Reference:
        https://github.com/Element84/earth-search/issues/9, https://github.com/Element84/earth-search/issues/66,
        https://github.com/microsoft/PlanetaryComputer/issues/134, https://github.com/stac-extensions/raster
    """
    scale, offset = announced(asset)
    # Reflectance that is stored as such, in floats, has the scale 1.
    gain = (
        None if scale in (None, 1) or math.isclose(scale * QUANTIFICATION, 1, rel_tol=1e-6) else scale * QUANTIFICATION
    )
    if any(properties.get(flag) in (True, "true", "True") for flag in _APPLIED):
        return gain, 0.0
    if offset is not None and scale is not None:
        return gain, float(round(offset * QUANTIFICATION, 6))
    baseline = _baseline(properties, name)
    if baseline is None:
        return None if gain is None else (gain, 0.0)
    return gain, OFFSET if baseline >= FIRST_BASELINE_WITH_OFFSET else 0.0


def denies_offset(properties: Mapping[str, Any]) -> bool:
    """Whether the flag says that the offset has not been applied, which is wrong at times."""
    return any(properties.get(flag) in (False, "false", "False") for flag in _APPLIED)


def shows_applied_offset(href: str) -> bool:
    """Whether a band's numbers show that its offset has been applied, whatever metadata say.

    Before that, a number below 1000 is reflectance below 0, which few pixels of the visible bands have; after it, most
    vegetation and water has such numbers. A bright desert has none either way, so false proves nothing.

    Args:
        href: of a visible band, of which an overview is read.
    """
    with open_raster(href) as source:
        sides = min(source.height, _OVERVIEW), min(source.width, _OVERVIEW)
        values = source.read(1, out_shape=sides)
    data = values[values != 0]
    return bool(data.size and np.mean(data < -OFFSET) > _DARK)


def announced(asset: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The scale and offset to reflectance in the metadata of an asset, None where there are none."""
    band: Mapping[str, Any] = next(iter(asset.get("raster:bands") or asset.get("bands") or ()), {})
    return _first((band, asset), ("raster:scale", "scale")), _first((band, asset), ("raster:offset", "offset"))


def _first(sources: tuple[Mapping, ...], names: tuple[str, ...]) -> float | None:
    for source in sources:
        for name in names:
            if source.get(name) is not None:
                return float(source[name])
    return None


def _baseline(properties: Mapping[str, Any], name: str) -> float | None:
    for key in _BASELINE:
        if re.fullmatch(r"\d\d?\.\d\d?", str(properties.get(key, ""))):
            return float(properties[key])
    found = re.search(r"_N(\d\d)(\d\d)_", f"{name}_{properties.get('s2:product_uri', '')}_")
    return float(f"{found[1]}.{found[2]}") if found else None
