"""Maps of cultivated land from a served model: NumPy arrays in, NumPy arrays out, and nothing heavy to install."""

from spinet_client.aio import AsyncClient
from spinet_client.channels import TLS
from spinet_client.client import Client
from spinet_client.errors import ServingError

__all__ = ["TLS", "AsyncClient", "Client", "ServingError"]
