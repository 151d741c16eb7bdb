"""What the names of image files say."""

import datetime
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spinet_tf.data.band_names import band_of
from spinet_tf.data.raster import SUFFIXES
from spinet_tf.errors import SpinetError

# 20190301, 2019-03-01, 2019_03_01, with or without the time of day after T or _
_DATE = r"(?<!\d)(?:19|20)\d\d(?P<separator>[-_.]?)\d\d(?P=separator)\d\d(?:[T_ ]\d\d[-:]?\d\d[-:]?\d\d)?(?!\d)"
_FIELDS = {"{date}": f"(?P<date>{_DATE})", "{band}": "(?P<band>[A-Za-z0-9]+(?:_[126]0m)?)", "*": ".*"}
# Pixel sizes and words in a name that do not tell two images apart.
_RESOLUTION = re.compile(r"R?[126]0m", re.IGNORECASE)
# Pictures and products that come with the bands of an image.
_NOT_BANDS = {"TCI", "AOT", "WVP", "PVI", "CLD", "SNW", "CLDPRB", "SNWPRB", "VISUAL", "PREVIEW", "THUMBNAIL"}


class NamedFile(NamedTuple):
    """A file, and what its name says of it.

    Attributes:
        path: of the file.
        date: as the name has it; None where there is none.
        band: the one band or mask that the name tells; None where it tells none.
        image: equal for the files of one image.
    """

    path: Path
    date: str | None
    band: str | None
    image: str


def named_files(folder: Path, pattern: str | None) -> list[NamedFile]:
    """The files of images in a folder, and what their names say.

    Args:
        folder: where the files are, in folders of any depth; or a file.
        pattern: how names are made, of `{date}`, `{band}` and `*`; see `spinet_tf.data.geotiff_folder.find_images`.

    Returns:
        At least one, by name.

    Raises:
        SpinetError: if there is none, or none is named like the pattern.

    Example:
        >>> named_files(Path("summer"), "{date}_{band}.tif")[0].band
        'B02'
    """
    if not folder.is_dir():
        return [_recognised(folder, folder.name)]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise SpinetError(f"Expected GeoTIFF files in {folder}. There are none.")
    if pattern is None:
        named = [_recognised(path, path.relative_to(folder).as_posix()) for path in paths]
        files = [file for file in named if not _NOT_BANDS & set(re.split(r"[_\-.]", file.path.stem.upper()))]
        return files or named
    if pattern.count("{date}") != 1 or pattern.count("{band}") > 1:
        raise SpinetError(
            f"Expected {{date}} once, and {{band}} at most once, in the pattern, as S2_{{date}}_{{band}}.tif has them. "
            f"Received: {pattern!r}."
        )
    expression = re.compile(
        "".join(_FIELDS.get(part, re.escape(part)) for part in re.split(r"(\{date\}|\{band\}|\*)", pattern))
    )
    files = []
    for path in paths:
        within = path.relative_to(folder)
        name = within.as_posix() if "/" in pattern else path.name
        if found := expression.fullmatch(name):
            text = found.groupdict().get("band")
            band = text and band_of(text)
            if text and band is None:
                continue
            rest = name if text is None else name[: found.start("band")] + name[found.end("band") :]
            files.append(NamedFile(path, found["date"], band, _without_resolution(f"{within.parent}/{rest}")))
    if not files:
        raise SpinetError(
            f"No file in {folder} is named like {pattern!r}. The first of {len(paths)} is {paths[0].name}."
        )
    return files


def _recognised(path: Path, name: str) -> NamedFile:
    """What can be made of a name without a pattern."""
    stem = name.removesuffix(path.suffix)
    date = re.search(_DATE, path.stem) or re.search(_DATE, stem)
    parts = re.split(r"([_\-./ ])", stem)
    for position in reversed(range(0, len(parts), 2)):
        if band := band_of(parts[position]):
            rest = _without_resolution("".join((*parts[:position], *parts[position + 1 :])))
            return NamedFile(path, date and date[0], band, rest)
    return NamedFile(path, date and date[0], None, _without_resolution(stem))


def _without_resolution(name: str) -> str:
    parts = re.split(r"[_\-./ ]", name)
    return "_".join(part for part in parts if part and not _RESOLUTION.fullmatch(part))


def read_time(text: str, path: Path) -> np.datetime64:
    """A date that a name gives as a moment.

    Raises:
        SpinetError: if there is no such date.
    """
    digits = re.sub(r"\D", "", text)
    try:
        time = datetime.datetime.strptime(digits, "%Y%m%d%H%M%S" if len(digits) == 14 else "%Y%m%d")
    except ValueError as error:
        raise SpinetError(f"{text}, in the name of {path}, is no date. Give the pattern of the names.") from error
    return np.datetime64(time, "ms")
