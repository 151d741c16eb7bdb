"""Train SPInet without its parts, score it on scenes shown in several ways, and say what each is worth.

What is asked: how many frames it takes; whether their order matters; what TERN is worth when frames lie ever further
apart, what attention is worth beside a mean over the frames, and more bands; and whether cloudy frames should be left
out. The output folder receives table.md, results.json and ablations.png, and under runs/ what each run left.
"""

import sys
from pathlib import Path

from spinet_tf.errors import reports_errors
from training.ablation_config import AblationConfig, load_ablations
from training.ablation_picture import draw_ablations
from training.ablation_report import notes, write_tables
from training.ablation_runs import run_all
from training.compare import RESUMABLE, read_arguments, show, simulate_missing
from training.output import prepare_output

EPILOG = f"""examples:
  python -m training.ablations --config training/configs/ablations_cpu.yaml          # into runs/ablations_cpu
  python -m training.ablations --config training/configs/ablations_cpu.yaml --output ablations

{RESUMABLE}"""


def run_ablations(ablations: AblationConfig, output: Path) -> None:
    """Do what is left of the ablations, and write their tables and picture.

    Args:
        ablations: what to run.
        output: the folder to write, see the top of this file.

    Raises:
        SpinetError: if scenes or output cannot be used, training diverges, or the folder holds runs of other settings.

    Example:
        run_ablations(load_ablations(Path("training/configs/ablations_cpu.yaml")), Path("runs/ablations_cpu"))
    """
    prepare_output(output, (), overwrite=False)
    for folder, simulated in ablations.simulated.items():
        simulate_missing(folder, simulated)
    runs = run_all(ablations, output)
    tables = write_tables(output, ablations, runs)
    picture = draw_ablations(output, ablations, runs)
    show(tables, notes(ablations), (output / "table.md", output / "results.json", picture))


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    config, output = read_arguments(argv, "training.ablations", __doc__ or "", EPILOG, "what to train and score")
    run_ablations(load_ablations(config), output)


if __name__ == "__main__":
    sys.exit(main())
