"""Train and score every system of a comparison on the same scenes with the same budget; go on where it stopped.

The output folder receives table.md, results.json, maps.png and mcc.png, and under runs/ what each run left.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from spinet_tf.data.simulate import simulate_eopatch
from spinet_tf.errors import reports_errors
from spinet_tf.progress import track
from training.compare_config import CompareConfig, Simulated, load_comparison
from training.compare_pictures import draw_comparison
from training.compare_report import notes, write_tables
from training.compare_runs import run_all
from training.compare_superresolution import super_resolution_table
from training.output import prepare_output
from training.tables import Table, rich_table

RESUMABLE = """Whatever ends it, the same command goes on: runs that are finished are kept, one that was interrupted
goes on from its checkpoint. To run one again, remove its folder.
"""

EPILOG = f"""examples:
  python -m training.compare --config training/configs/compare_cpu.yaml          # into runs/compare_cpu
  python -m training.compare --config training/configs/compare_cpu.yaml --output comparison
  KERAS_BACKEND=jax python -m training.compare --config training/configs/compare_gpu.yaml

{RESUMABLE}"""


def compare(comparison: CompareConfig, output: Path) -> None:
    """Do what is left of a comparison, and write its tables and pictures.

    Args:
        comparison: what to compare.
        output: the folder to write, see the top of this file.

    Raises:
        SpinetError: if scenes or output cannot be used, training diverges, or the folder holds runs of other settings.

    Example:
        compare(load_comparison(Path("training/configs/compare_cpu.yaml")), Path("runs/compare_cpu"))
    """
    prepare_output(output, (), overwrite=False)
    for folder, simulated in comparison.simulated.items():
        simulate_missing(folder, simulated)
    runs = run_all(comparison, output)
    super_resolution = super_resolution_table(comparison, output)
    tables = write_tables(output, comparison, runs, super_resolution)
    pictures = draw_comparison(output, runs)
    show(tables, notes(comparison), (output / "table.md", output / "results.json", *pictures))


def show(tables: Iterable[Table], notes: Iterable[str], paths: Iterable[Path]) -> None:
    """Print tables and what they mean, and which files were written."""
    console = Console()
    # A file has no edge.
    console.width = max(console.width, 110) if console.is_terminal else 160
    print()
    for table in tables:
        console.print(rich_table(table), "")
    for note in notes:
        print(note)
    for path in paths:
        print(f"Wrote {path}")


def simulate_missing(folder: Path, simulated: Simulated) -> None:
    """Simulate the scenes that a folder lacks; each is whole or not there."""
    paths = [folder / f"eopatch-{number:03d}" for number in range(1, simulated.count + 1)]
    missing = [(number, path) for number, path in enumerate(paths, 1) if not path.exists()]
    for number, path in track(missing, f"Simulating scenes in {folder}", len(missing)):
        simulate_eopatch(path, [simulated.seed, number], simulated.size, simulated.dates)


def read_arguments(
    argv: list[str] | None, module: str, description: str, epilog: str, config_help: str
) -> tuple[Path, Path]:
    """The YAML file and the output folder that a command is given."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help=f"{config_help}: a YAML file")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write (default: runs/<name of FILE>)")
    arguments = parser.parse_args(argv)
    return arguments.config, arguments.output or Path("runs") / arguments.config.stem


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    config, output = read_arguments(argv, "training.compare", __doc__ or "", EPILOG, "what to compare")
    compare(load_comparison(config), output)


if __name__ == "__main__":
    sys.exit(main())
