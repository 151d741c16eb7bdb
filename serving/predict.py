"""The map of a scene by a served model: `spinet predict` with the network elsewhere.

python -m serving.predict scenes/eopatch-001 --server 127.0.0.1:8500 -o map.tif
"""

# Before TensorFlow, whose start-up messages it silences.
import spinet_tf  # noqa: F401

# isort: split
import argparse
import sys

from serving.client import Client, ServingError
from spinet_tf.cli import add_map_arguments, make_map
from spinet_tf.errors import SpinetError, reports_errors


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command with `argv`, by default the program's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.predict",
        description="Map the probability of cultivated land over a scene, asking a server tile by tile.",
        epilog="example:\n  python -m serving.predict scenes/eopatch-001 --server 127.0.0.1:8500 -o map.tif",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_map_arguments(parser)
    parser.add_argument("--server", default="127.0.0.1:8500", help="its address (default: %(default)s)")
    parser.add_argument("--name", default="spinet", help="the model's name there (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds per tile (default: %(default)s)")
    args = parser.parse_args(argv)
    with Client(args.server, args.name, args.timeout) as client:
        try:
            make_map(args, lambda: client)
        except ServingError as error:
            raise SpinetError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
