"""Headers say what open scenes have, without reading them."""

import numpy as np
import pytest

from spinet_tf.data.headers import read_header
from spinet_tf.data.scene import open_scene
from spinet_tf.errors import SpinetError
from tests.labelled import labelled_scene


def assert_agrees(header, path):
    scene = open_scene(path)
    assert header.bands == tuple(scene["band"].values)
    assert (header.frames, header.height, header.width) == tuple(scene.sizes[key] for key in ("time", "y", "x"))
    label = scene.get("label")
    assert header.scale == (None if label is None else label.shape[0] / scene.sizes["y"])


@pytest.mark.parametrize("suffix", [".npy", ".npy.gz", ".zarr"])
def test_eopatch(write_1x, suffix):
    path = write_1x(suffix)
    assert read_header(path)[1:] == (3, 4, 5, 4)
    assert_agrees(read_header(path), path)
    for file in (path / "mask_timeless").glob("CULTIVATED*"):
        file.rename(path / "elsewhere")
    assert read_header(path).scale is None


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("scale", [1, 3])
def test_xarray(tmp_path, suffix, scale):
    scene = labelled_scene(scale=scale)
    if scale == 1:
        scene = scene.rename(y_label="y", x_label="x")
    for name, dataset in (("with", scene), ("without", scene.drop_vars("label"))):
        path = tmp_path / f"{name}{suffix}"
        dataset.to_netcdf(path, engine="h5netcdf") if suffix == ".nc" else dataset.to_zarr(
            path, zarr_format=2, consolidated=False
        )
        assert_agrees(read_header(path), path)
    assert read_header(path).scale is None


def test_values_are_not_read(write_2021, arrays):
    """Noise does not compress, so the head is intact in half a file."""
    arrays["data/BANDS"] = np.random.default_rng(0).integers(0, 65535, (3, 4, 5, 12), "uint16")
    path = write_2021()
    file = path / "data" / "BANDS.npy.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert read_header(path)[1:] == (3, 4, 5, 4)
    with pytest.raises(SpinetError, match="truncated"):
        open_scene(path)


@pytest.mark.parametrize(
    ("feature", "change", "message"),
    [
        ("data/BANDS", lambda array: array[..., :10], r"Expected the shape \(any, any, any, 12\)"),
        ("data/BANDS", lambda array: array.astype("float32"), "Expected uint16"),
        ("mask_timeless/CULTIVATED", lambda array: array[:-1], "Label of the wrong size"),
        ("mask_timeless/CULTIVATED", lambda array: array[..., 0], r"Expected the shape \(any, any, 1\)"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_what_cannot_be_opened(write_1x, arrays, feature, change, message, suffix):
    arrays[feature] = change(arrays[feature])
    with pytest.raises(SpinetError, match=message):
        read_header(write_1x(suffix))


def test_missing_bands(write_1x):
    path = write_1x()
    (path / "data" / "BANDS.npy").unlink()
    with pytest.raises(SpinetError, match=r"Expected the bands of an EOPatch in .*data as BANDS"):
        read_header(path)
