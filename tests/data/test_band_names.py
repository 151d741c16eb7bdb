"""Names of bands in catalogues, products and files."""

import pytest

from spinet_tf.bands import BANDS
from spinet_tf.data.band_names import PIXEL_SIZES, band_of

EARTH_SEARCH = dict(
    zip(
        (
            "coastal",
            "blue",
            "green",
            "red",
            "rededge1",
            "rededge2",
            "rededge3",
            "nir",
            "nir08",
            "nir09",
            "swir16",
            "swir22",
        ),
        BANDS,
        strict=True,
    )
)


@pytest.mark.parametrize("form", ["{}", "{}_10m", "{}_60m", "band_{1}", "b{2}"])
@pytest.mark.parametrize("band", BANDS)
def test_every_band_in_every_form(band, form):
    number = band.removeprefix("B")
    assert band_of(form.format(band, number, number.lstrip("0").lower())) == band


def test_names_of_earth_search():
    assert {name: band_of(name) for name in EARTH_SEARCH} == EARTH_SEARCH
    assert (band_of("scl"), band_of("SCL_20m"), band_of("dataMask")) == ("SCL", "SCL", "VALID")


@pytest.mark.parametrize(
    "name",
    ["TCI_10m", "visual", "AOT", "B00", "B13", "B8", "B8B", "rededge", "red-jp2", "thumbnail", "", "10m", "B022"],
)
def test_other_names(name):
    assert band_of(name) == ("B08" if name == "B8" else None)


def test_pixel_sizes():
    assert set(PIXEL_SIZES) == {*BANDS, "B10"}
    assert [name for name, size in PIXEL_SIZES.items() if size == 10] == ["B02", "B03", "B04", "B08"]
    assert [name for name, size in PIXEL_SIZES.items() if size == 60] == ["B01", "B09", "B10"]
