"""The files that a map becomes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from spinet_tf.errors import SpinetError
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.restart import parts_folder

PathLike = str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where a map is written to, and in which forms.

    Attributes:
        rasters: from layers to GeoTIFFs, "probability" among them.
        polygons: a file of polygons, or None.
        min_area: the smallest polygon in hectares.
        simplify: what outlines are smoothed by, in pixels.
        quicklook: a PNG, or None.
        stac_item: a .json, or None.
    """

    rasters: dict[str, Path]
    polygons: PathLike | None
    min_area: float
    simplify: float
    quicklook: PathLike | None
    stac_item: PathLike | None

    @property
    def files(self) -> dict[str, Path]:
        """All files, in the order in which they are written."""
        further = {"polygons": self.polygons, "quicklook": self.quicklook, "stac_item": self.stac_item}
        return {**self.rasters, **{name: Path(path) for name, path in further.items() if path is not None}}

    def require_possible(self, grid: Grid, overwrite: bool) -> None:
        """Raise, before the work and not after it, the SpinetError for what cannot be written.

        Args:
            grid: of the scene.
            overwrite: whether existing files may be replaced.
        """
        # What an earlier run began, it was allowed to write.
        overwrite = overwrite or parts_folder(self.rasters["probability"]).is_dir()
        for file in self.files.values():
            if file.is_dir():
                raise SpinetError(f"{file} is a folder, and a file would replace it. Choose another output.")
            if file.exists() and not overwrite:
                raise SpinetError(f"{file} exists already. Choose another output or pass --overwrite.")
        if self.polygons is not None:
            from spinet_tf.inference.polygons import polygon_writer

            polygon_writer(self.polygons)
            if grid.crs is None:
                raise SpinetError("Expected a scene with a CRS for polygons. Received: one without. Leave them out.")
            if min(self.min_area, self.simplify) < 0:
                raise SpinetError(
                    f"Expected numbers of 0 or more. Received: min_area {self.min_area}, simplify {self.simplify}"
                )
        for path, suffix in ((self.quicklook, ".png"), (self.stac_item, ".json")):
            if path is not None and Path(path).suffix.lower() != suffix:
                raise SpinetError(f"Expected a {suffix} file. Received: {path}")

    def write_further(self, scene: xr.Dataset, dates: Sequence[Any], sources: dict[str, str]) -> None:
        """Write what is made from the rasters once they are there.

        Args:
            scene: what the map was made from.
            dates: of the frames that were used.
            sources: what the map was made from, by titles, for the STAC item.
        """
        if self.polygons is not None:
            from spinet_tf.inference.polygons import write_polygons

            write_polygons(
                self.rasters["class"],
                self.rasters["probability"],
                self.polygons,
                min_area=self.min_area,
                simplify=self.simplify,
                overwrite=True,
            )
        if self.quicklook is not None:
            from spinet_tf.inference.quicklook import write_quicklook

            write_quicklook(self.rasters["probability"], self.quicklook, scene, overwrite=True)
        if self.stac_item is not None:
            from spinet_tf.inference.stac import write_item

            others = {name: path for name, path in self.files.items() if name != "stac_item"}
            write_item(others, self.stac_item, dates=dates, derived_from=sources, overwrite=True)
