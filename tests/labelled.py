"""Small labelled scenes in which each value tells where it came from."""

import numpy as np
import xarray as xr

BANDS = ("B02", "B04", "B08")


def labelled_scene(height=12, width=10, time=4, bands=BANDS, scale=4, seed=0, name="made"):
    """Random numbers; all clear but for frame 1, cloudy everywhere, and frame 2, cloudy in the left half."""
    rng = np.random.default_rng(seed)
    valid = np.ones((time, height, width), bool)
    valid[1:2] = False
    valid[2:3, :, : width // 2] = False
    label = rng.integers(0, 2, (scale * height, scale * width), "uint8")
    label[: 2 * scale, :scale] = 255
    return xr.Dataset(
        {
            "bands": (("time", "band", "y", "x"), rng.integers(1, 9999, (time, len(bands), height, width), "uint16")),
            "valid": (("time", "y", "x"), valid),
            "label": (("y_label", "x_label"), label),
        },
        coords={"band": list(bands), "time": np.datetime64("2019-03-01", "ns") + np.timedelta64(9, "D") * range(time)},
        attrs={"name": name},
    )


def position_scene(height=9, width=10, time=3, scale=4, name="positions"):
    """Each fine pixel's label is a function of its place, and each image pixel of its place, frame and band."""
    scene = labelled_scene(height, width, time, scale=scale, name=name)
    y, x = np.mgrid[:height, :width]
    t, b = np.ogrid[:time, : len(BANDS)]
    scene["bands"] = (
        scene["bands"].dims,
        (t + 10 * b)[..., None, None].astype("uint16") + (100 * y + 1000 * x).astype("uint16"),
    )
    scene["valid"] = scene["valid"].dims, np.ones((time, height, width), bool)
    y, x = np.mgrid[: scale * height, : scale * width]
    scene["label"] = scene["label"].dims, ((3 * y + x * x) % 7 < 3).astype("uint8")
    return scene
