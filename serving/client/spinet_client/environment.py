"""A client as commands make it: secrets come from the environment, where other users do not see them."""

import os

from spinet_client.calls import Model
from spinet_client.channels import TLS
from spinet_client.client import Client

HELP = """environment:
  SPINET_TOKEN               the token that the servers ask for
  SPINET_TLS                 1 encrypts the connection
  SPINET_ROOT_CERTIFICATE    encrypts it, and trusts the authority whose certificate is in this file
  SPINET_CLIENT_CERTIFICATE  the client's own certificate, with
  SPINET_CLIENT_KEY          its key"""


def open_client(addresses: str, model: str, timeout: float = 300.0) -> Client:
    """Make a client from what is typed, and from the environment that `HELP` describes.

    Args:
        addresses: "host:port", several separated by commas.
        model: "name", "name/3" (a version) or "name/stable" (a label).
        timeout: seconds that a request has.

    Returns:
        The client.

    Raises:
        ServingError: if something cannot be used.

    Example:
        open_client("127.0.0.1:8500", "spinet/stable")
    """
    get = os.environ.get
    files = get("SPINET_ROOT_CERTIFICATE"), get("SPINET_CLIENT_CERTIFICATE"), get("SPINET_CLIENT_KEY")
    tls = TLS(*files) if get("SPINET_TLS") == "1" or any(files) else None
    asked = Model.parse(model)
    return Client(
        addresses,
        asked.name,
        version=asked.version,
        label=asked.label,
        timeout=timeout,
        tls=tls,
        token=get("SPINET_TOKEN"),
    )
