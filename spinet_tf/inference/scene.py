"""A scene into a map."""

import keras
import numpy as np
import xarray as xr

from spinet_tf.data.scene import clear_fraction, select_bands
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import Engine, as_engine
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.tiles import predict_tiles
from spinet_tf.tiling.frames import Method, choose_frames


def predict_scene(
    model: keras.Model | Engine,
    scene: xr.Dataset,
    frames: Method = "all",
    count: int = 20,
    max_cloud: float = 0.25,
    tile: int = 64,
    overlap: int = 8,
) -> xr.Dataset:
    """Map the probability of cultivated land over a whole scene.

    Args:
        model: a Keras model such as `SPInet`, or any engine with `predict`, `band_names` and `scale`.
        scene: as `open_scene` gives it; its bands are matched to the model's by name.
        frames: which frames the model sees: "all" with at most `max_cloud` of cloud, or the `count` "clearest".
        count: how many frames "clearest" keeps.
        max_cloud: the greatest part of a frame without clear ground that "all" accepts.
        tile: side of the tiles that the model sees, in pixels of the scene.
        overlap: the least overlap of neighbouring tiles, over which they are blended.

    Returns:
        `probability` (y, x) float32 on a grid `scale` times finer, with the scene's CRS and exact coordinates (none
        where the scene has none); NaN where no chosen frame holds data. The attribute `frames` lists the frames used.

    Raises:
        SpinetError: if the scene lacks a band of the model, has no valid frame, or the model does not name its bands.

    Example:
        predict_scene(keras.models.load_model("best.keras"), open_scene("eopatch-902")).probability.plot()
    """
    engine = as_engine(model)
    if engine.band_names is None:
        raise SpinetError(
            "The model does not name its bands, so the scene's cannot be matched to them. Give SPInet the names: "
            'SPInet(bands=("B02", "B03", ...)).'
        )
    scene = select_bands(scene, engine.band_names)
    chosen = choose_frames(clear_fraction(scene), method=frames, count=count, max_cloud=max_cloud)
    images = scene["bands"].isel(time=chosen).transpose("time", "y", "x", "band").to_numpy()
    probability = predict_tiles(engine.predict, images[None], engine.scale, tile, overlap)[0, :, :, 0]
    # The network answers everywhere; where it was shown nothing, the answer means nothing.
    nodata = np.all(images == 0, axis=(0, 3)).repeat(engine.scale, axis=0).repeat(engine.scale, axis=1)
    probability[nodata] = np.nan

    attributes = {"long_name": "probability of cultivated land", "units": "1"}
    result = xr.Dataset(
        {"probability": (("y", "x"), probability, attributes)},
        attrs={"name": scene.attrs.get("name", "scene"), "frames": chosen.tolist()},
    )
    return Grid.of_scene(scene, engine.scale).locate(result)
