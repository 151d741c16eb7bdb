"""What a comparison found, as tables and JSON."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spinet_tf.files import replacing
from training.compare_config import CompareConfig
from training.compare_runs import Run
from training.scores import BOUNDARY_PIXELS, THRESHOLD, Score
from training.tables import Table, markdown


def by_system(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each system, in order."""
    systems: dict[str, list[Run]] = {}
    for run in runs:
        systems.setdefault(run.system, []).append(run)
    return systems


def spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation (n - 1) of a score over seeds, as text."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.3f}"
    return f"{mean} ± {statistics.stdev(known):.3f}" if len(known) > 1 else mean


def comparison_tables(runs: Sequence[Run], super_resolution: Mapping[str, Any] | None) -> list[Table]:
    """The tables: systems with their scores and costs, MCC on each scene, and PIUnet's own."""
    systems = by_system(runs)
    columns: dict[str, Callable[[Score], float | None]] = {
        "MCC": lambda score: score.mcc,
        "weighted MCC": lambda score: score.weighted_mcc,
        "boundary MCC": lambda score: score.mcc_near_boundary,
    }
    rows = []
    for name, found in systems.items():
        first = found[0]
        rows.append(
            [
                name,
                _seeds(found),
                *(spread([pick(run.mean) for run in found]) for pick in columns.values()),
                f"{first.parameters:,}",
                "-" if first.macs is None else f"{first.macs / 1e9:.3g}",
                f"{first.steps:,}" if first.steps else "-",
                f"{statistics.median(run.seconds_per_km2 for run in found):.2f}",
            ]
        )
    header = ["system", "seeds", *columns, "parameters", "GMAC", "steps", "s per km²"]
    scenes = list(runs[0].scenes)
    each = [
        [name, _seeds(found), *(spread([run.scenes[scene].mcc for run in found]) for scene in scenes)]
        for name, found in systems.items()
    ]
    tables = [Table("Systems", header, rows, []), Table("MCC on each scene", ["system", "seeds", *scenes], each, [])]
    if super_resolution is not None:
        gains = [run["cpsnr"] for run in super_resolution["runs"]]
        bicubic = super_resolution["bicubic"]
        tables.append(
            Table(
                "Image super-resolution, 3x",
                ["system", "seeds", "cPSNR in dB", "parameters", "GMAC"],
                [
                    ["bicubic of the mean", "-", f"{bicubic:.2f}", "-", "-"],
                    [
                        "PIUnet",
                        str(len(gains)),
                        f"{statistics.fmean(gains):.2f}" + (f" ± {statistics.stdev(gains):.2f}" if gains[1:] else ""),
                        f"{super_resolution['parameters']:,}",
                        f"{super_resolution['macs'] / 1e9:.3g}",
                    ],
                ],
                [],
            )
        )
    return tables


def notes(comparison: CompareConfig) -> list[str]:
    """What the figures mean, a sentence or two each."""
    budget = comparison.budget
    given = f"{budget.steps:,} updates" if budget.steps else f"{budget.minutes:g} minutes of updates"
    texts = [
        f"Every network was given {given} of {budget.batch} patches; the model scored is the one of the epoch with the "
        f"highest validation MCC, its map what has a probability above {THRESHOLD}.",
        "MCC, weighted and boundary MCC are means over the scenes of the test, then mean ± standard deviation (n - 1) "
        "over seeds. Weighted MCC has the weights of the AI4EO challenge's score; boundary MCC is that of pixels at "
        f"most {BOUNDARY_PIXELS} label pixels from one that borders on the other class.",
        "Parameters are those that training changes. GMAC: thousand million multiply-accumulates of a forward pass for "
        "one training patch with its frames. Seconds per km² are those of mapping the first scene, tiles overlapping, "
        "on the machine that ran the comparison.",
    ]
    fixed = {name: config.model.series for name, config in comparison.systems.items() if config and config.model.series}
    if fixed:
        texts.append(
            "Networks of a fixed length see the clearest frames: "
            + ", ".join(f"{name} {series}" for name, series in fixed.items())
            + ". The others see all frames that are clear enough."
        )
    if None in comparison.systems.values():
        texts.append("NDVI thresholds were fitted on the scenes that train.")
    if comparison.super_resolution is not None:
        texts.append(
            f"Super-resolution: {comparison.super_resolution.band} of the scenes as the truth of 10 m, "
            f"{comparison.super_resolution.frames} images of 30 m simulated from it with shifts, blur, noise and other "
            "brightness (training/compare_superresolution.py); cPSNR has a peak of 65535."
        )
    return texts


def _seeds(runs: Sequence[Run]) -> str:
    return "-" if runs[0].seed is None else str(len(runs))


def write_tables(
    output: Path, comparison: CompareConfig, runs: Sequence[Run], super_resolution: Mapping[str, Any] | None
) -> list[Table]:
    """Write table.md and results.json; the tables."""
    tables = comparison_tables(runs, super_resolution)
    summary: dict[str, Any] = {
        "budget": dataclasses.asdict(comparison.budget),
        "seeds": list(comparison.seeds),
        "training": str(comparison.training),
        "test": str(comparison.test),
        "systems": {name: [_summary(run) for run in found] for name, found in by_system(runs).items()},
        "super_resolution": super_resolution,
        "notes": notes(comparison),
    }
    with replacing(output / "results.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with replacing(output / "table.md") as temporary:
        temporary.write_text(markdown(tables, notes(comparison)), encoding="utf-8")
    return tables


def _summary(run: Run) -> dict[str, Any]:
    content = run._asdict()
    del content["system"]
    content["mean"] = dataclasses.asdict(run.mean)
    content["scenes"] = {name: dataclasses.asdict(score) for name, score in run.scenes.items()}
    return content
