"""A map and what it was made from, as one HTML page to look at."""

from spinet_tf.inference.view.page import write_view

__all__ = ["write_view"]
