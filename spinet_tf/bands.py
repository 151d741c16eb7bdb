"""The twelve bands of a Sentinel-2 L2A product, in the one order used everywhere."""

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

# Reflectance is the digital number divided by this: the quantification value of Sentinel-2 L2A products.
QUANTIFICATION = 10000
