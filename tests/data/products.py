"""Sentinel-2 products as small SAFE folders."""

from tests.data.rasters import write_raster

ORDER = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


def metadata(
    time="2022-04-02T10:00:31.024Z", baseline="04.00", offsets=(-1000,) * 13, quantification="10000", cloud=12.5
):
    """MTD_MSIL2A.xml, as much of it as is read."""
    bands = "".join(f'<Spectral_Information bandId="{n}" physicalBand="{band}"/>' for n, band in enumerate(ORDER))
    values = "".join(f'<BOA_ADD_OFFSET band_id="{n}">{value}</BOA_ADD_OFFSET>' for n, value in enumerate(offsets or ()))
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{values}</BOA_ADD_OFFSET_VALUES_LIST>" if offsets else ""
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{time}</PRODUCT_START_TIME>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
    </Product_Info>
    <Product_Image_Characteristics>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>
      {listed}
      <Spectral_Information_List>{bands}</Spectral_Information_List>
    </Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Quality_Indicators_Info>
    <Cloud_Coverage_Assessment>{cloud}</Cloud_Coverage_Assessment>
  </n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>
"""


def write_product(
    folder, bands, suffix=".tif", tile="T33TWM", day="20220402T100031", baseline="0400", text=None, **place
):
    """Write a product, whose bands are as `tests.data.rasters.product` makes them; returns its folder."""
    safe = folder / f"S2A_MSIL2A_{day}_N{baseline}_R122_{tile}_{day}.SAFE"
    images = safe / "GRANULE" / f"L2A_{tile}_A035384_{day}" / "IMG_DATA"
    finest = max(len(values) for values in bands.values())
    for band, values in bands.items():
        resolution = 10 * finest // len(values)
        path = images / f"R{resolution}m" / f"{tile}_{day}_{band}_{resolution}m{suffix}"
        write_raster(path, values, resolution=float(resolution), **place)
    (safe / "MTD_MSIL2A.xml").write_text(metadata() if text is None else text)
    return safe
