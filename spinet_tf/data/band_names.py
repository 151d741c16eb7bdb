"""What catalogues, products and people call the bands of Sentinel-2."""

import re

# The side of a band's own pixels, in metres.
# https://sentiwiki.copernicus.eu/web/s2-mission
PIXEL_SIZES = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B01", "B09", "B10"), 60),
}

# The scene classification of Sen2Cor, the cloud mask of s2cloudless (0 is clear), and any mask that is not 0 where the
# ground was seen.
MASKS = ("SCL", "CLM", "VALID")

# https://github.com/stac-extensions/eo#common-band-names, and those of Earth Search
_COMMON_NAMES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge071": "B05",
    "rededge2": "B06",
    "rededge075": "B06",
    "rededge3": "B07",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
    "scl": "SCL",
    "clm": "CLM",
    "valid": "VALID",
    "datamask": "VALID",
}


def band_of(name: str) -> str | None:
    """The band or mask that a name stands for.

    Args:
        name: of an asset, a variable, a band's description or a part of a file's name: "B02", "b2", "band_2",
            "B02_10m", "blue", "rededge1", "SCL_20m".

    Returns:
        "B01" to "B12", "B8A", or one of `MASKS`; None for other names, such as that of a true-colour picture.

    Example:
        >>> band_of("nir08"), band_of("B8A_20m"), band_of("TCI_10m")
        ('B8A', 'B8A', None)
    """
    name = re.sub(r"[_-]?(10|20|60)m$", "", name.strip().lower())
    if name in _COMMON_NAMES:
        return _COMMON_NAMES[name]
    number = re.fullmatch(r"b(?:and)?[ _-]?0?(\d{1,2}|8a)", name)
    band = number and ("B8A" if number[1] == "8a" else f"B{int(number[1]):02d}")
    return band if band in PIXEL_SIZES else None
