"""Maps as Cloud-Optimised GeoTIFF."""

import os
import warnings
from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401  (the accessor .rio)
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing


def write_cog(image: xr.DataArray | xr.Dataset, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write a map as a Cloud-Optimised GeoTIFF: 512 x 512 blocks, deflate, averaged overviews, NaN as nodata.

    Args:
        image: float (y, x) with CRS and coordinates as `predict_scene` gives it, or a Dataset with `probability`.
            Its `long_name` becomes the band's description. Without coordinates the file counts in pixels.
        path: the file to write; its folder is created.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path written.

    Raises:
        SpinetError: if the file exists or cannot be written.

    Example:
        write_cog(predict_scene(model, scene), "map.tif")

    Reference: https://gdal.org/en/stable/drivers/raster/cog.html
    """
    if isinstance(image, xr.Dataset):
        image = image["probability"]
    if image.rio.crs is None:
        warnings.warn("The map has no CRS, because the scene has none.", stacklevel=2)
    with replacing(path, overwrite=overwrite) as temporary, warnings.catch_warnings():
        # Said above, in words about the scene.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            image.rio.write_nodata(np.nan).rio.to_raster(
                temporary,
                driver="COG",
                blocksize=512,
                compress="DEFLATE",
                predictor="YES",
                overview_resampling="AVERAGE",
            )
        # What GDAL reports, a full disk for example, has no public base class.
        except Exception as error:
            raise SpinetError(f"Cannot write {path}: {error}") from error
    return Path(path)
