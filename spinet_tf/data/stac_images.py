"""STAC items as images."""

import datetime
import warnings
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from spinet_tf.data.band_names import MASKS, PIXEL_SIZES, band_of
from spinet_tf.data.mosaic import Image
from spinet_tf.data.raster import Layer, Placement, checked_placement, open_raster, read_placement
from spinet_tf.data.stac_offset import denies_offset, scaling, shows_applied_offset
from spinet_tf.errors import SpinetError

_UNKNOWN = (
    "nothing says whether an offset is left to apply; the numbers are taken as they are. Give the offset: 0, or -1000."
)
_APPLIED = (
    "the catalogue says that the offset has not been applied, and the numbers show that it has. It is not applied "
    "again."
)


def images_of(items: Iterable, offset: float | None = None) -> list[Image]:
    """Items as images: bands by the names of their assets, the scene classification as mask.

    The assets of Earth Search, Planetary Computer and Copernicus Data Space are known; of several resolutions of one
    band its own is taken. What the digital numbers are is found by `spinet_tf.data.stac_offset.scaling`; where an item
    denies that its offset has been applied, its numbers are asked, and a `UserWarning` says if they know better.

    Args:
        items: of pystac, with one asset for each band.
        offset: what is added to digital numbers, instead.

    Raises:
        SpinetError: if an item has no bands of Sentinel-2, or its metadata are damaged.

    Example:
        images_of(search.items(), offset=0)
    """
    images = []
    remarks: dict[str, list[str]] = {}
    for item in items:
        try:
            image, remark = _image(item, offset)
        except SpinetError:
            raise
        except Exception as error:  # whatever nonsense a damaged item may hold
            raise SpinetError(f"The STAC item {getattr(item, 'id', item)} cannot be used: {error!r}") from error
        images.append(image)
        if remark is not None:
            remarks.setdefault(remark, []).append(image.name)
    for remark, names in remarks.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.warn(f"{names[0]}{others}: {remark}", stacklevel=3)
    return images


def _image(item: Any, offset: float | None) -> tuple[Image, str | None]:
    """The image of an item, and what is remarkable about it."""
    assets = _assets(item)
    hrefs = {name: _href(asset, item.id) for name, asset in assets.items()}
    bands = [name for name in assets if name not in MASKS]
    time = item.datetime or item.common_metadata.start_datetime
    if time is None:
        raise SpinetError(f"The STAC item {item.id} has no date.")
    finest = min(bands, key=lambda name: (PIXEL_SIZES[name], name))
    cloud = item.properties.get("eo:cloud_cover")
    layers, remark = _layers(item, {name: assets[name] for name in bands}, hrefs, offset)
    image = Image(
        name=item.id,
        time=np.datetime64(time.astimezone(datetime.UTC).replace(tzinfo=None), "ms"),
        placement=_placement(item, assets[finest], hrefs[finest]),
        bands=layers,
        masks={name: Layer(hrefs[name]) for name in MASKS if name in assets},
        cloud=None if cloud is None else float(cloud) / 100,
    )
    return image, remark


def _assets(item: Any) -> dict[str, Any]:
    """The asset of each band and mask."""
    chosen: dict[str, tuple[str, Any]] = {}
    for key, asset in item.assets.items():
        name = _band_name(key, asset)
        if name is not None and (name not in chosen or (_own(name, key) and not _own(name, chosen[name][0]))):
            chosen[name] = key, asset
    if not set(chosen) - set(MASKS):
        raise SpinetError(
            f"The STAC item {item.id} has no bands of Sentinel-2. Its assets: {', '.join(item.assets) or 'none'}."
        )
    return {name: asset for name, (_, asset) in chosen.items()}


def _band_name(key: str, asset: Any) -> str | None:
    """The band of an asset, by its key, else by the name of its only band."""
    if name := band_of(key):
        return name
    bands: list[dict] = asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands") or []
    if len(bands) != 1 or key.endswith("-jp2"):  # Earth Search has each band twice
        return None
    return band_of(str(bands[0].get("name", "")))


def _own(name: str, key: str) -> bool:
    """Whether a key such as B05_20m says that the asset has the band's own resolution."""
    return key.endswith(f"{PIXEL_SIZES.get(name, 20)}m")


def _href(asset: Any, item: str) -> str:
    """Path or address of an asset."""
    href = asset.get_absolute_href() or asset.href
    if not href:
        raise SpinetError(f"An asset of the STAC item {item} has no address.")
    parts = urlsplit(href)
    return url2pathname(parts.path) if parts.scheme == "file" else href


def _layers(
    item: Any, assets: dict[str, Any], hrefs: dict[str, str], offset: float | None
) -> tuple[dict[str, Layer], str | None]:
    """Where each band is and how its values become digital numbers, and what is remarkable about that."""
    if offset is not None:
        return {name: Layer(hrefs[name], 1, None, offset) for name in assets}, None
    found = {name: scaling(item.properties, asset.to_dict(), item.id) for name, asset in assets.items()}
    remark = _UNKNOWN if None in found.values() else None
    known = {name: scale or (None, 0.0) for name, scale in found.items()}
    visible = next((name for name in ("B03", "B04", "B02") if name in known and known[name][1] < 0), None)
    if visible is not None and denies_offset(item.properties) and shows_applied_offset(hrefs[visible]):
        remark = _APPLIED
        known = {name: (gain, 0.0) for name, (gain, _) in known.items()}
    return {name: Layer(hrefs[name], 1, *scale) for name, scale in known.items()}, remark


def _placement(item: Any, asset: Any, href: str) -> Placement:
    """By the projection extension where the item has it, else by the file's head."""
    fields = {**item.properties, **asset.extra_fields}
    code = fields.get("proj:code") or (f"EPSG:{fields['proj:epsg']}" if fields.get("proj:epsg") else None)
    shape, transform = fields.get("proj:shape"), fields.get("proj:transform")
    if not (code and shape and transform):
        with open_raster(href) as source:
            return read_placement(source, href)
    height, width = map(int, shape)
    placement = Placement(CRS.from_user_input(code), Affine(*map(float, transform[:6])), width, height)
    return checked_placement(placement, href)
