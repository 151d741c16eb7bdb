"""The scores as tables, for a terminal, Markdown and HTML alike."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from training.results import Evaluation, System
from training.scores import BOUNDARY_PIXELS, FRAME_STEPS, Score, clear_frame_groups
from training.uncertainty_scores import PLACES, Trust, UncertaintyTally


class Table(NamedTuple):
    """A table of text.

    Attributes:
        title: what it shows.
        header: names of the columns; the first two hold names, the others numbers.
        rows: one for each scene and system.
        summary: one for each system, over all scenes; none where there is one scene only.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    summary: list[list[str]]


def score_tables(evaluation: Evaluation) -> list[Table]:
    """The tables of an evaluation: its scores, MCC by place and, where asked for, MCC by number of frames.

    Args:
        evaluation: what was found.

    Returns:
        Two or three tables with a row for each scene and system.

    Example:
        print(markdown_table(score_tables(evaluation)[0]))
    """
    tables = [
        _table(
            "Scores",
            evaluation,
            {
                "MCC": lambda score: score.mcc,
                "weighted MCC": lambda score: score.weighted_mcc,
                "precision": lambda score: score.precision,
                "recall": lambda score: score.recall,
                "F1": lambda score: score.f1,
                "IoU": lambda score: score.iou,
            },
        )
    ]
    there = {name for scene in evaluation.scenes for name in scene.tallies["model"].pixels_by_clear_frames()}
    tables.append(
        _table(
            "MCC near boundaries, elsewhere, and by number of clear frames",
            evaluation,
            {
                f"within {BOUNDARY_PIXELS} px": lambda score: score.mcc_near_boundary,
                "elsewhere": lambda score: score.mcc_elsewhere,
            }
            | {f"{name} clear": _of_group(name) for name in clear_frame_groups() if name in there},
        )
    )
    if evaluation.has_curve():
        tables.append(_curve_table(evaluation))
    if evaluation.has_uncertainty():
        tables += [_trust_table(evaluation), _frames_table(evaluation)]
    return tables


def _trust_table(evaluation: Evaluation) -> Table:
    columns: dict[str, Callable[[Trust], float]] = {
        "ECE": lambda trust: trust.ece,
        "Brier": lambda trust: trust.brier,
        "NLL": lambda trust: trust.nll,
        "error rate": lambda trust: trust.error_rate,
        "area under risk": lambda trust: trust.aurc,
        "excess": lambda trust: trust.excess_aurc,
        "errors found": lambda trust: trust.error_detection,
    }
    places = dict(zip(PLACES, ("all pixels", f"within {BOUNDARY_PIXELS} px", "elsewhere"), strict=True))

    def rows(name: str, tally: UncertaintyTally, place: str, by: str) -> list[list[str]]:
        trust = tally.trust(place)
        return (
            [[name, f"{places[place]}, by {by}", *(_small(pick(trust)) for pick in columns.values())]] if trust else []
        )

    ways = [("entropy", False)] + ([("own uncertainty", True)] if evaluation.has_own() else [])
    return Table(
        f"Trust in {evaluation.model}'s probabilities, and in what its uncertainty says of errors at 0.5",
        ["scene", "pixels, by uncertainty", *columns],
        [
            row
            for scene in evaluation.scenes
            for by, own in ways
            for row in rows(scene.scene, (scene.own if own else scene.uncertainties)[scene.frames], "all", by)
        ],
        [row for place in PLACES for by, own in ways for row in rows("together", evaluation.trust(own), place, by)],
    )


def _frames_table(evaluation: Evaluation) -> Table:
    """Uncertainty where there are few frames: used at all, or clear at a pixel."""
    own = evaluation.has_own()
    header = ["pixels of all scenes", "frames", "error rate", "mean entropy"] + ["mean own uncertainty"] * own
    rows = []
    if evaluation.has_curve():
        for step in evaluation.steps():
            found = [evaluation.trust(which, step).trust() for which in (False, True)[: 1 + own]]
            means = [_small(trust.uncertainty) for trust in found if trust]
            rows += [["all, clearest frames used", str(step), _small(found[0].error_rate), *means]] if found[0] else []
    groups = [evaluation.trust(which).by_clear_frames() for which in (False, True)[: 1 + own]]
    names = dict(zip((0, *FRAME_STEPS), clear_frame_groups(), strict=True))
    for first, *others in zip(*groups, strict=True):
        means = [_small(group["uncertainty"]) for group in (first, *others)]
        rows.append(["seen clear", names[first["from"]], _small(first["error_rate"]), *means])
    return Table("Uncertainty by number of frames", header, rows, [])


def _of_group(name: str) -> Callable[[Score], float | None]:
    return lambda score: score.mcc_by_clear_frames.get(name)


def _table(title: str, evaluation: Evaluation, columns: dict[str, Callable[[Score], float | None]]) -> Table:
    def row(name: str, system: System, score: Score) -> list[str]:
        return [name, system.label, *(_cell(pick(score)) for pick in columns.values())]

    systems = evaluation.systems()
    return Table(
        title,
        ["scene", "map", *columns],
        [row(scene.scene, system, scene.score(system)) for scene in evaluation.scenes for system in systems],
        [row("mean", system, evaluation.mean(system)) for system in systems if len(evaluation.scenes) > 1]
        + [row("together", system, evaluation.together(system)) for system in systems if len(evaluation.scenes) > 1],
    )


def _curve_table(evaluation: Evaluation) -> Table:
    steps, systems = evaluation.steps(), evaluation.systems()
    return Table(
        "MCC by number of frames used",
        ["scene", "map", *map(str, steps[:-1]), "all"],
        [
            [scene.scene, system.label, *(_cell(scene.curve_mcc(system, step)) for step in steps)]
            for scene in evaluation.scenes
            for system in systems
        ],
        [
            ["mean", system.label, *(_cell(evaluation.mean_curve_mcc(system, step)) for step in steps)]
            for system in systems
            if len(evaluation.scenes) > 1
        ],
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _small(value: float) -> str:
    return f"{value:.4f}"


def rich_table(table: Table) -> RichTable:
    """The table for a terminal."""
    shown = RichTable(
        title=Text(table.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False
    )
    # Names are text, whatever brackets they hold; where there is little room, those of maps are broken between words.
    words = [word for row in table.rows for word in row[1].split()]
    shown.add_column(table.header[0], min_width=max(len(row[0]) for row in table.rows))
    shown.add_column(table.header[1], min_width=max(map(len, words)))
    for name in table.header[2:]:
        shown.add_column(name, min_width=max(map(len, [*name.split(), "-0.000"])), justify="right")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    shown.add_section()
    for row in table.summary:
        shown.add_row(*map(Text, row), style="bold")
    return shown


def markdown_table(table: Table) -> str:
    """The table as Markdown, without its title."""
    rows = [table.header, ["---"] * 2 + ["---:"] * (len(table.header) - 2), *table.rows, *table.summary]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, row))} |" for row in rows)


def _markdown_cell(text: str) -> str:
    text = " ".join(text.splitlines())
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text


def markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """The tables with their titles, and the notes as a list."""
    parts = [f"## {table.title}\n\n{markdown_table(table)}" for table in tables]
    return "\n\n".join([*parts, "\n".join(f"- {_markdown_cell(note)}" for note in notes)]) + "\n"
