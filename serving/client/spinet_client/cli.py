"""The command line: spinet-client status, describe, predict."""

import argparse
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import get_args

import numpy as np

from spinet_client.calls import Signature, Tensor
from spinet_client.client import Client
from spinet_client.environment import HELP, open_client
from spinet_client.errors import ServingError
from spinet_client.tiling import TILE, WINDOW, MeansOf, SpinetError


def main(argv: list[str] | None = None) -> int:
    """Run the command line with `argv`, by default the program's own arguments.

    Returns:
        0 if all went well, 1 if something cannot be used or no server answers, 130 after Ctrl-C.
    """
    args = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        try:
            with open_client(args.server, args.model, args.timeout) as client:
                return args.run(client, args)
        except SpinetError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130


def status(client: Client, args: argparse.Namespace) -> int:
    """Say which versions the server has of a model. The exit code is 1 where none is available."""
    if args.wait is not None:
        client.wait_until_ready(args.wait)
    versions = client.status()
    for version in versions:
        print(f"version {version.version}  {version.state}  {version.error}".rstrip())
    return 0 if any(version.state == "AVAILABLE" for version in versions) else 1


def describe(client: Client, args: argparse.Namespace) -> int:
    """Say which bands a model takes, how fine its answer is, and by which signatures it can be asked."""
    description = client.describe()
    print(f"bands       {' '.join(description.band_names or ['not named'])}")
    print(f"scale       {description.scale}")
    for name, signature in client.metadata().items():
        print(f"signature   {name}: {_signature(signature)}")
    return 0


def predict(client: Client, args: argparse.Namespace) -> int:
    """Make the map of a scene in a NumPy file: float32 probabilities, NaN where there is no data."""
    if args.output.exists() and not args.overwrite:
        raise ServingError(f"{args.output} exists already. Choose another output or pass --overwrite.")
    if not os.access(args.output.parent, os.W_OK):
        raise ServingError(f"Cannot write {args.output}: no folder {args.output.parent} that may be written.")
    images, valid = _load(args.scene)
    probability = client.predict_scene(
        images,
        valid,
        concurrency=args.concurrency,
        progress=_show if sys.stderr.isatty() else None,
        frames=args.frames,
        count=args.count,
        max_cloud=args.max_cloud,
        tile=args.tile,
        overlap=args.overlap,
        seam_free=args.seam_free,
        means=args.means,
    )
    _save(args.output, probability)
    print(f"Wrote {args.output}: {probability.shape[0]} x {probability.shape[1]} pixels")
    return 0


def _load(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with open(path, "rb") as file:
            # Arrays of objects are pickles, which could run anything.
            loaded = np.load(file, allow_pickle=False)
            return (loaded, None) if isinstance(loaded, np.ndarray) else (loaded["images"], loaded.get("valid"))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ServingError(
            f"Cannot read {path}: {error}. Expected .npy with images, uint16 (time, height, width, bands), or .npz "
            "with images and valid, bool (time, height, width)."
        ) from error


def _save(path: Path, array: np.ndarray) -> None:
    try:
        # Renamed at the end, so that no half-written file is ever left.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            with open(temporary, "wb") as file:
                np.save(file, array)
            os.replace(temporary, path)
    except OSError as error:
        raise ServingError(f"Cannot write {path}: {error.strerror}. Choose another output.") from error


def _show(done: int, total: int) -> None:
    print(f"\r{done} of {total} tiles", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _signature(signature: Signature) -> str:
    def listed(tensors: dict[str, Tensor]) -> str:
        return ", ".join(f"{name} {tensor}" for name, tensor in tensors.items())

    return f"{listed(signature.inputs)} -> {listed(signature.outputs)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spinet-client",
        description="Ask a model behind TensorFlow Serving, or behind this project's local server, for maps.",
        epilog="examples:\n"
        "  spinet-client status --server maps.example.org:8500\n"
        "  spinet-client describe\n"
        f"  spinet-client predict scene.npz -o map.npy\n\n{HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spinet-client {metadata.version('spinet-client')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _command(
        commands,
        status,
        "say which versions a server has",
        "examples:\n  spinet-client status\n  spinet-client status --model spinet/stable --wait 120",
    )
    add("--wait", type=float, metavar="SECONDS", help="wait until the model is loaded, for this long at most")

    _command(
        commands, describe, "say what a model takes and gives", "example:\n  spinet-client describe --model spinet/3"
    )

    add = _command(
        commands,
        predict,
        "make the map of a scene",
        "examples:\n"
        "  spinet-client predict scene.npz -o map.npy\n"
        "  spinet-client predict images.npy -o map.npy --server a:8500,b:8500 --frames clearest --count 9",
    )
    add(
        "scene",
        type=Path,
        help=".npy with images, uint16 (time, height, width, bands) in the order that `describe` shows, 0 for no data; "
        "or .npz with these as `images`, and `valid`, bool (time, height, width), where clear ground was seen",
    )
    add("-o", "--output", type=Path, required=True, help="the .npy file to write")
    add("--frames", choices=("all", "clearest"), default="all", help="which frames of each tile (default: %(default)s)")
    add("--max-cloud", type=float, default=0.25, help="for `all`: the part of a tile not clear (default: %(default)s)")
    add("--count", type=int, default=20, help="for `clearest`: how many (default: %(default)s)")
    add("--tile", type=int, default=TILE, help="greatest side of a tile in pixels (default: %(default)s)")
    add("--overlap", type=int, help="pixels over which tiles are blended (default: a quarter of a tile)")
    add(
        "--seam-free",
        type=int,
        nargs="?",
        const=WINDOW,
        default=False,
        metavar="WINDOW",
        help="windows at fixed places instead of tiles, four times the work (default size: %(const)s)",
    )
    add("--means", choices=get_args(MeansOf), default="scene", help="what TEFA and TERN average (default: %(default)s)")
    add("--concurrency", type=int, default=4, help="requests under way at once (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace the output if it exists")
    return parser


def _command(commands, run: Callable, summary: str, examples: str) -> Callable:
    parser = commands.add_parser(
        run.__name__,
        help=summary,
        description=run.__doc__,
        epilog=f"{examples}\n\n{HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--server", default="127.0.0.1:8500", help="host:port, several separated by commas (default: %(default)s)")
    add("--model", default="spinet", help="its name, name/version or name/label (default: %(default)s)")
    add("--timeout", type=float, default=300.0, help="seconds for each request (default: %(default)s)")
    return add


if __name__ == "__main__":
    sys.exit(main())
