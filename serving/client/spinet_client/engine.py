"""A served model as an engine of spinet_tf: `spinet predict SCENE --model grpc://host:port/name -o map.tif`."""

from spinet_client.client import Client
from spinet_client.environment import open_client
from spinet_client.errors import ServingError


def open_engine(address: str) -> Client:
    """Open a served model; spinet_tf finds this function by the entry point "grpc" in the group "spinet_tf.engines".

    Once it is open, a request is repeated for as long as its timeout allows, while the server is gone or overloaded.

    Args:
        address: "host:port/name", and optionally "/" with a version's number or its label; several "host:port" are
            separated by commas. Token and certificates are taken from the environment.

    Returns:
        A client, which has `band_names`, `scale`, `predict` and `close`.

    Raises:
        ServingError: if it is no such address, no server answers, or it has no such model.

    Example:
        open_engine("127.0.0.1:8500/spinet/stable").predict(images, num_frames)
    """
    hosts, _, path = address.partition("/")
    client = open_client(hosts, path)
    try:
        # Asked now, so that a wrong address is known at once.
        client.scale  # noqa: B018
    except ServingError:
        client.close()
        raise
    client.retries = None
    return client
