"""Maps of cultivated land from a served model: NumPy arrays in, NumPy arrays out, and nothing heavy to install."""

import os

# Before gRPC, which otherwise writes a line to stderr whenever a server ends its connection.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# isort: split
from spinet_client.aio import AsyncClient
from spinet_client.channels import TLS
from spinet_client.client import Client
from spinet_client.errors import ServingError

__all__ = ["TLS", "AsyncClient", "Client", "ServingError"]
