"""From a time series to tiles that a network sees one at a time, and from its answers to one seamless map.

Pure NumPy, with relative imports only: the client of the model server carries this very folder.
"""

from .errors import SpinetError
from .frames import FrameChoice, Method, choose_frames
from .means import SAMPLE, Means, MeansOf, MeanSums, SceneMeans, require_means, spread_out
from .mosaic import Mosaic
from .requests import Series, TileRequest, cut_frames, cut_request, frames_to_read, tile_frames
from .tiles import TILE, WINDOW, Axis, Tile, Tiling

__all__ = [
    "SAMPLE",
    "TILE",
    "WINDOW",
    "Axis",
    "FrameChoice",
    "MeanSums",
    "Means",
    "MeansOf",
    "Method",
    "Mosaic",
    "SceneMeans",
    "Series",
    "SpinetError",
    "Tile",
    "TileRequest",
    "Tiling",
    "choose_frames",
    "cut_frames",
    "cut_request",
    "frames_to_read",
    "require_means",
    "spread_out",
    "tile_frames",
]
