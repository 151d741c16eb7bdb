"""Folders of GeoTIFFs: one file for each date with all bands, or one for each band and date."""

import datetime
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.errors import NotGeoreferencedWarning

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.band_names import MASKS, PIXEL_SIZES, band_of
from spinet_tf.data.mosaic import Image
from spinet_tf.data.raster import SUFFIXES, Layer, Placement, open_raster, read_placement
from spinet_tf.errors import SpinetError

# 20190301, 2019-03-01, 2019_03_01, with or without the time of day after T or _
_DATE = r"(?<!\d)(?:19|20)\d\d(?P<separator>[-_.]?)\d\d(?P=separator)\d\d(?:[T_ ]\d\d[-:]?\d\d[-:]?\d\d)?(?!\d)"
_FIELDS = {"{date}": f"(?P<date>{_DATE})", "{band}": "(?P<band>[A-Za-z0-9]+(?:_[126]0m)?)", "*": ".*"}
# Pixel sizes and words in a name that do not tell two images apart.
_RESOLUTION = re.compile(r"R?[126]0m", re.IGNORECASE)
# Pictures and products that come with the bands of an image.
_NOT_BANDS = {"TCI", "AOT", "WVP", "PVI", "CLD", "SNW", "CLDPRB", "SNWPRB", "VISUAL", "PREVIEW", "THUMBNAIL"}


class _File(NamedTuple):
    """A file, and what its name says of it."""

    path: Path
    date: str | None
    band: str | None
    image: str  # equal for the files of one image


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
    files = _matching(folder, pattern) if folder.is_dir() else [_recognised(folder, folder.name)]
    order = None if band_order is None else _checked_order(band_order)
    grouped: dict[str, list[_File]] = {}
    for file in files:
        grouped.setdefault(file.image, []).append(file)
    images = [_image(parts, order, offset, len(grouped) > 1) for parts in grouped.values()]
    return _with_masks(images, folder)


def has_images(folder: Path) -> bool:
    """Whether a GeoTIFF or JPEG 2000 file lies in a folder or the folders in it."""
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def _matching(folder: Path, pattern: str | None) -> list[_File]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise SpinetError(f"Expected GeoTIFF files in {folder}. There are none.")
    if pattern is None:
        named = [_recognised(path, path.relative_to(folder).as_posix()) for path in paths]
        files = [file for file in named if not _NOT_BANDS & set(re.split(r"[_\-.]", file.path.stem.upper()))]
        return files or named
    if "{date}" not in pattern:
        raise SpinetError(f'Expected {{date}} in the pattern, as in "S2_{{date}}_{{band}}.tif". Received: {pattern!r}.')
    expression = re.compile(
        "".join(_FIELDS.get(part, re.escape(part)) for part in re.split(r"(\{date\}|\{band\}|\*)", pattern))
    )
    files = []
    for path in paths:
        name = path.relative_to(folder).as_posix() if "/" in pattern else path.name
        if found := expression.fullmatch(name):
            band = found.groupdict().get("band")
            if band is not None and band_of(band) is None:
                continue
            rest = name if band is None else name[: found.start("band")] + name[found.end("band") :]
            files.append(_File(path, found["date"], band and band_of(band), _without_resolution(rest)))
    if not files:
        raise SpinetError(
            f"No file in {folder} is named like {pattern!r}. The first of {len(paths)} is {paths[0].name}."
        )
    return files


def _recognised(path: Path, name: str) -> _File:
    """What can be made of a name without a pattern."""
    stem = name.removesuffix(path.suffix)
    date = re.search(_DATE, path.stem) or re.search(_DATE, stem)
    parts = re.split(r"([_\-./ ])", stem)
    for position in reversed(range(0, len(parts), 2)):
        if band := band_of(parts[position]):
            rest = _without_resolution("".join((*parts[:position], *parts[position + 1 :])))
            return _File(path, date and date[0], band, rest)
    return _File(path, date and date[0], None, _without_resolution(stem))


def _without_resolution(name: str) -> str:
    parts = re.split(r"[_\-./ ]", name)
    return "_".join(part for part in parts if part and not _RESOLUTION.fullmatch(part))


def _checked_order(names: Sequence[str]) -> list[str]:
    names = names.replace(",", " ").split() if isinstance(names, str) else list(names)
    order = [band for name in names if (band := band_of(name))]
    if not len(set(order)) == len(names) > 0:
        raise SpinetError(f"Expected bands of Sentinel-2, each once, as the order of bands. Received: {names}.")
    return order


def _image(files: list[_File], order: list[str] | None, offset: float | None, dated: bool) -> Image:
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
    time = None if first.date is None else _time(first.date, first.path)
    return Image(
        name=str(first.path),
        time=time,
        placement=placement,
        bands={name: layer for name, (layer, _) in layers.items() if name not in MASKS},
        masks={name: layer for name, (layer, _) in layers.items() if name in MASKS},
        whole_day=time is not None and time == time.astype("datetime64[D]"),
    )


def _layers(file: _File, order: list[str] | None, offset: float | None) -> list[tuple[str, Layer, Placement]]:
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


def _names(source: Any, file: _File, order: list[str] | None) -> dict[int, str]:
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


def _time(text: str, path: Path) -> np.datetime64:
    digits = re.sub(r"\D", "", text)
    try:
        time = datetime.datetime.strptime(digits, "%Y%m%d%H%M%S" if len(digits) == 14 else "%Y%m%d")
    except ValueError as error:
        raise SpinetError(f"{text}, in the name of {path}, is no date. Give the pattern of the names.") from error
    return np.datetime64(time, "ms")


def _with_masks(images: list[Image], folder: Path) -> list[Image]:
    """The images that have bands; those without are masks of all others of their date."""
    with_bands = [image for image in images if image.bands]
    if not with_bands:
        raise SpinetError(f"Expected bands in {folder}. There are only masks.")
    for mask in (image for image in images if not image.bands):
        for image in with_bands:
            if image.solar_day == mask.solar_day:
                image.masks.update(mask.masks)
    return with_bands
