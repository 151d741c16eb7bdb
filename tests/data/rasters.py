"""Small images written as the sources of scenes keep them."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds

WEST, NORTH, CRS = 500000.0, 5100000.0, "EPSG:32633"
with rasterio.Env() as _env:
    _JPEG2000 = "JP2OpenJPEG" in _env.drivers()
IMAGE_SUFFIXES = (
    ".tif",
    pytest.param(".jp2", marks=pytest.mark.skipif(not _JPEG2000, reason="GDAL has no driver JP2OpenJPEG")),
)
RESOLUTIONS = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20),
    **dict.fromkeys(("B01", "B09"), 60),
}


def write_raster(path, values, resolution=10.0, west=WEST, north=NORTH, crs=CRS, names=None, **options):
    """Write (y, x) or (band, y, x) values with the upper left corner at `west`, `north`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.atleast_3d(values.T).T
    transform = Affine(resolution, 0, west, 0, -resolution, north)
    if path.suffix == ".jp2":
        options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", **options}
    else:
        options = {"driver": "GTiff", **options}
    count, height, width = values.shape
    profile = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile, **options) as target:
        target.write(values)
        if names is not None:
            target.descriptions = names
    return path


def coarse(values, factor):
    """Every `factor`th pixel of (..., y, x)."""
    return np.ascontiguousarray(values[..., ::factor, ::factor])


def fine(values, factor, shape):
    """Each pixel repeated, cut to a shape."""
    return values.repeat(factor, axis=-2).repeat(factor, axis=-1)[..., : shape[0], : shape[1]]


def lonlat(west, north, height, width, resolution=10.0, crs=CRS):
    """West, south, east and north in degrees of a rectangle of pixels."""
    return transform_bounds(crs, "EPSG:4326", west, north - height * resolution, west + width * resolution, north)


def product(rng, size=36, classes=(0, 3, 4, 5, 6, 7, 8, 9)):
    """Random digital numbers of each band and a scene classification, each at its own resolution."""
    sides = {name: size * 10 // resolution for name, resolution in RESOLUTIONS.items()}
    bands = {name: rng.integers(1, 9000, (side, side), "uint16") for name, side in sides.items()}
    bands["SCL"] = rng.choice(np.array(classes, "uint8"), (sides["SCL"], sides["SCL"]))
    return bands


def at_10m(bands):
    """What a scene should hold of `product`, before any offset: {name: (y, x)}."""
    shape = bands["B02"].shape
    return {name: fine(values, RESOLUTIONS[name] // 10, shape) for name, values in bands.items()}


def stac_item(name, time, hrefs, properties=None, raster=None, projection=True, west=WEST, north=NORTH, size=36):
    """A STAC item as a dict; `hrefs` maps keys of assets to addresses, with resolutions by `RESOLUTIONS` or 10 m."""
    west_, south, east, north_ = lonlat(west, north, size, size)
    corners = [[west_, south], [east, south], [east, north_], [west_, north_], [west_, south]]
    assets = {}
    for key, href in hrefs.items():
        resolution = RESOLUTIONS.get(key[:3].upper(), 10)
        side = size * 10 // resolution
        assets[key] = {"href": str(href), "type": "image/tiff; application=geotiff", "roles": ["data"]}
        if projection:
            assets[key] |= {"proj:shape": [side, side], "proj:transform": [resolution, 0, west, 0, -resolution, north]}
        if raster is not None and key[:3].upper() != "SCL":
            assets[key]["raster:bands"] = [raster]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "bbox": [west_, south, east, north_],
        "properties": {"datetime": time, **({"proj:epsg": 32633} if projection else {}), **(properties or {})},
        "links": [],
        "assets": assets,
    }


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
