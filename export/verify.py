"""The proof that a model's files answer as the model does, on requests drawn anew each time.

python -m export.verify runs/demo/best.keras models/spinet/1 --onnx spinet.onnx

Requests have sizes that the export was not checked with: one frame, odd sizes, batches of several lengths, padded with
their first element as TensorFlow Serving pads or with noise. Each goes to the Keras model, to the SavedModel in a TF1
session as TensorFlow Serving runs it (TF1), to the same over gRPC (a local server on a free port), to its uint8
signature, and to ONNX Runtime. For SPInet these are also asked with the means of other series; and the Keras model is
asked for every series alone: padding must change nothing.
"""

import argparse
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from spinet_client import Client

from export.comparison import (
    PROOF_SIZES,
    TOLERANCE,
    Predict,
    Request,
    SavedModelEngine,
    alone,
    difference,
    limit,
    random_requests,
    with_other_means,
    with_uncertainty,
)
from export.graph import UINT8_SCALE, Exportable
from export.warmup import FILE as WARMUP
from serving.server import Server
from spinet_tf import SPInet
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.inference.model import load_model
from spinet_tf.inference.onnx_engine import OnnxEngine
from spinet_tf.progress import track

EPILOG = """examples:
  python -m export.verify runs/demo/best.keras models/spinet/1
  python -m export.verify runs/demo/best.keras models/spinet/1 --onnx spinet.onnx --seed 7
"""


@dataclass(frozen=True)
class Way:
    """One way of asking for probabilities.

    Attributes:
        name: heads the column.
        predict: asks.
        model: asks the Keras model.
        rounding: how far an answer may be off besides what float32 explains.
    """

    name: str
    predict: Predict
    model: Predict
    rounding: float = 0.0


@dataclass(frozen=True)
class Finding:
    """How far the answers to one request are from the Keras model's.

    Attributes:
        request: the request.
        greatest: the greatest probability of the Keras model's answer.
        differences: the greatest difference for each way, by its name.
        failed: the ways whose answer is wrong.
    """

    request: Request
    greatest: float
    differences: dict[str, float]
    failed: set[str]


def verify(
    model: str | os.PathLike, directory: str | os.PathLike, onnx: str | os.PathLike | None = None, seed: int = 0
) -> list[Finding]:
    """Compare the files made from a model with it, on requests drawn at random.

    Args:
        model: the .keras file.
        directory: the SavedModel made from it, one version of a servable.
        onnx: the ONNX file made from it, or None.
        seed: decides the requests.

    Returns:
        What was found for each request.

    Raises:
        SpinetError: if a file cannot be loaded, or was made from a model of other bands or another scale.

    Example:
        any(finding.failed for finding in verify("best.keras", "models/spinet/1"))
    """
    exportable = Exportable(load_model(model))
    with ExitStack() as stack:
        saved_model = stack.enter_context(SavedModelEngine(directory))
        _same_model(exportable, saved_model, directory)
        client = stack.enter_context(_served(Path(directory)))
        engines: dict[str, Any] = {"TF1": saved_model, "gRPC": client}
        if onnx is not None:
            onnx_engine = OnnxEngine(onnx)
            _same_model(exportable, onnx_engine, onnx)
            engines["ONNX"] = onnx_engine
        model_answers = with_uncertainty(exportable)
        ways = [Way(name, with_uncertainty(engine), model_answers) for name, engine in engines.items()]
        ways.append(Way("uint8", saved_model.predict_uint8, model_answers, rounding=0.5 / UINT8_SCALE))
        if exportable.takes_means:
            reference = with_other_means(exportable)
            ways += [Way(f"{name} means", with_other_means(engine), reference) for name, engine in engines.items()]
        if isinstance(exportable.model, SPInet):
            ways.append(Way("each alone", alone(exportable), exportable.predict))
        requests = random_requests(np.random.default_rng(seed), exportable.bands, PROOF_SIZES, exportable.frames)
        return [_examine(request, ways) for request in track(requests, "Comparing")]


def _examine(request: Request, ways: list[Way]) -> Finding:
    asked = request.images, request.num_frames
    # Several ways have one reference.
    expected = {model: model(*asked) for model in {way.model for way in ways}}
    differences = {way.name: difference(expected[way.model], way.predict(*asked)) for way in ways}
    failed = {way.name for way in ways if not differences[way.name] <= limit(expected[way.model]) + way.rounding}
    return Finding(request, max(float(answer.max()) for answer in expected.values()), differences, failed)


def _same_model(exportable: Exportable, other: SavedModelEngine | OnnxEngine, path: str | os.PathLike) -> None:
    expected = exportable.band_names or exportable.bands, exportable.scale
    received = other.band_names or other.bands, other.scale
    if received != expected:
        raise SpinetError(
            f"Expected files made from one model. {path} has bands and scale {received}, the .keras file {expected}."
        )


@contextmanager
def _served(directory: Path) -> Iterator[Client]:
    """A client of a local server over one version of a servable."""
    with tempfile.TemporaryDirectory() as folder:
        version = Path(folder) / "1"
        version.mkdir()
        for path in directory.resolve().iterdir():
            # A server that warms up would answer every one of those requests first.
            if path.name != WARMUP.parent.name:
                (version / path.name).symlink_to(path)
        with Server(folder, port=0) as server, Client(server.address) as client:
            yield client


def findings_table(findings: list[Finding]) -> Table:
    """The findings for a terminal of 80 columns: a row for each way, a column for each request."""
    table = Table(
        title="max |delta p| from the Keras model",
        caption=f"Allowed: {TOLERANCE:.0e} of the greatest p, and half a step more for uint8.",
        box=box.SIMPLE,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("batch x time x h x w", vertical="bottom")
    for finding in findings:
        shape = "x".join(map(str, finding.request.images.shape[:4]))
        table.add_column(f"{finding.request.name}\n{shape}", justify="right", min_width=len(shape), vertical="bottom")
    for name in findings[0].differences:
        table.add_row(name, *(_cell(finding.differences[name], name in finding.failed) for finding in findings))
    table.add_section()
    table.add_row("greatest p", *(f"{finding.greatest:.3f}" for finding in findings))
    return table


def _cell(delta: float, failed: bool) -> str:
    return f"[bold red]{delta:.1e} FAIL" if failed else f"{delta:.1e}"


@reports_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command with `argv`, by default the program's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m export.verify",
        description="Prove that a SavedModel, in a TF1 session and over gRPC, and an ONNX file answer as the .keras "
        "model does. The exit code is 1 where one does not.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="the .keras file")
    add("saved_model", help="the SavedModel made from it: one version's folder")
    add("--onnx", metavar="FILE", help="the ONNX file made from it")
    add("--seed", type=int, help="decides the requests (default: another each time, printed)")
    args = parser.parse_args(argv)
    if args.seed is not None and args.seed < 0:
        raise SpinetError(f"Expected a seed of 0 or more. Received: {args.seed}.")
    seed = secrets.randbits(32) if args.seed is None else args.seed
    findings = verify(args.model, args.saved_model, args.onnx, seed)
    Console().print(findings_table(findings))
    failures = sum(len(finding.failed) for finding in findings)
    print(f"Seed {seed}: {f'{failures} of the answers differ' if failures else 'all answers agree'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
