"""Folders of GeoTIFFs: one file for each date with all bands, or one for each band and date."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import NotGeoreferencedWarning

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.band_names import MASKS, PIXEL_SIZES, band_of
from spinet_tf.data.file_names import NamedFile, named_files, read_time
from spinet_tf.data.mosaic import Image
from spinet_tf.data.raster import SUFFIXES, Layer, Placement, open_raster, read_placement
from spinet_tf.errors import SpinetError


def find_images(
    folder: Path, pattern: str | None = None, band_order: Sequence[str] | None = None, offset: float | None = None
) -> list[Image]:
    """The images in a folder of GeoTIFF or JPEG 2000 files, or in a single file.

    Args:
        folder: where the files are, in folders of any depth; or a file.
        pattern: how the names are made, of `{date}`, `{band}` and `*` for anything: "S2_{date}_{band}.tif"; with a
            slash it is compared with the path within the folder. Files of other names are left out. By default the
            first date in a name is taken, and the last part that is the name of a band.
        band_order: the bands of files that hold several without naming them in their descriptions.
        offset: what is added to digital numbers; by default what the file's scale and offset tags say, else 0.

    Returns:
        At least one image.

    Raises:
        SpinetError: if there is none, or a file has no date, no CRS, or bands that nobody names.

    Example:
        find_images(Path("summer"), "{date}/{band}.tif")
    """
    order = None if band_order is None else _checked_order(band_order)
    grouped: dict[str, list[NamedFile]] = {}
    for file in named_files(folder, pattern):
        grouped.setdefault(file.image, []).append(file)
    images = [_image(parts, order, offset, len(grouped) > 1) for parts in grouped.values()]
    return _joined(images, folder)


def has_images(folder: Path) -> bool:
    """Whether a GeoTIFF or JPEG 2000 file lies in a folder or the folders in it."""
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def _checked_order(names: Sequence[str]) -> list[str]:
    names = names.replace(",", " ").split() if isinstance(names, str) else list(names)
    order = [band for name in names if (band := band_of(name))]
    if not len(set(order)) == len(names) > 0:
        raise SpinetError(f"Expected bands of Sentinel-2, each once, as the order of bands. Received: {names}.")
    return order


def _image(files: list[NamedFile], order: list[str] | None, offset: float | None, dated: bool) -> Image:
    """One image of the files that belong to it."""
    first = files[0]
    if first.date is None and dated:
        raise SpinetError(
            f"No date in the name of {first.path}. Give the pattern of the names, such as "
            '"S2_{date}_{band}.tif", where a date is 20190301 or 2019-03-01.'
        )
    layers: dict[str, tuple[Layer, Placement]] = {}
    for file in files:
        for name, layer, placement in _layers(file, order, offset):
            if name not in layers or _prefer(name, placement, layers[name][1]):
                layers[name] = layer, placement
    placement = min((place for _, place in layers.values()), key=lambda place: (place.transform.a, -place.width))
    time = None if first.date is None else read_time(first.date, first.path)
    return Image(
        name=str(first.path),
        time=time,
        placement=placement,
        bands={name: layer for name, (layer, _) in layers.items() if name not in MASKS},
        masks={name: layer for name, (layer, _) in layers.items() if name in MASKS},
        whole_day=time is not None and time == time.astype("datetime64[D]"),
    )


def _layers(file: NamedFile, order: list[str] | None, offset: float | None) -> list[tuple[str, Layer, Placement]]:
    """Name, place in the file and pixels of each band that a file holds."""
    href = str(file.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `read_placement` says it
        with open_raster(href) as source:
            placement = read_placement(source, href)
            names = _names(source, file, order)
            if any(np.dtype(kind).kind not in "iuf" for kind in source.dtypes):
                raise SpinetError(f"Expected whole or real numbers in {href}. Received: {source.dtypes[0]}.")
            scaling = list(zip(source.scales, source.offsets, strict=True))
    layers = []
    for index, name in names.items():
        scale, add = scaling[index - 1]
        tagged = offset is None and (scale, add) != (1, 0)
        layer = (
            Layer(href, index, scale * QUANTIFICATION, add * QUANTIFICATION)
            if tagged
            else Layer(href, index, None, offset or 0.0)
        )
        layers.append((name, Layer(href, index) if name in MASKS else layer, placement))
    return layers


def _names(source: Any, file: NamedFile, order: list[str] | None) -> dict[int, str]:
    """The names of a file's bands by their number, from 1; bands of other names than Sentinel-2's are left out."""
    described = {n: band for n, text in enumerate(source.descriptions, 1) if text and (band := band_of(text))}
    if source.count == 1:
        if name := file.band or described.get(1) or (order[0] if order and len(order) == 1 else None):
            return {1: name}
    elif order is not None:
        if len(order) != source.count:
            raise SpinetError(
                f"Expected {len(order)} bands, {' '.join(order)}, in {file.path}. Received: {source.count}."
            )
        return dict(enumerate(order, 1))
    elif len(set(described.values())) == len(described) > 0:
        return described
    raise SpinetError(
        f"Which bands {file.path} holds is unknown: neither "
        f"{'its name' if source.count == 1 else f'descriptions of its {source.count} bands'} nor an order says it. "
        "Give the order of its bands, such as B02,B03,B04,B08."
    )


def _prefer(name: str, placement: Placement, held: Placement) -> bool:
    """Whether a band at these pixels is better than the one held: nearer to the band's own pixels."""
    own = PIXEL_SIZES.get(name, 20)
    return abs(placement.transform.a - own) < abs(held.transform.a - own)


def _joined(images: list[Image], folder: Path) -> list[Image]:
    """Images whose files tell that they are one in no name: other bands at the same place and time; and masks."""
    whole: list[Image] = []
    for image in images:
        for other in whole if image.bands else ():
            if image.time == other.time and _same_place(image, other) and not image.bands.keys() & other.bands.keys():
                finest = min(image.placement, other.placement, key=lambda place: place.transform.a)
                whole[whole.index(other)] = replace(
                    other, placement=finest, bands=other.bands | image.bands, masks=other.masks | image.masks
                )
                break
        else:
            if image.bands:
                whole.append(image)
    if not whole:
        raise SpinetError(f"Expected bands in {folder}. There are only masks.")
    for mask in (image for image in images if not image.bands):
        whole = [
            replace(image, masks=image.masks | mask.masks) if image.solar_day == mask.solar_day else image
            for image in whole
        ]
    return whole


def _same_place(first: Image, second: Image) -> bool:
    """Whether two images cover the same ground, to a pixel."""
    if first.placement.crs != second.placement.crs:
        return False
    pixel = max(first.placement.transform.a, second.placement.transform.a)
    return bool(np.allclose(first.placement.bounds, second.placement.bounds, rtol=0, atol=pixel))
