"""What an evaluation found: each scene's counts, and the scores that follow from them."""

import dataclasses
import functools
import operator
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.scores import BOUNDARY_PIXELS, THRESHOLD, Score, Tally, frame_steps, mean_score
from training.uncertainty_scores import PLACES, UncertaintyTally

# Maps of the NDVI baseline are true or false, whatever threshold lies between.
NDVI_THRESHOLD = 0.5


class System(NamedTuple):
    """A row of the tables: a map, and how it was made from what was predicted.

    Attributes:
        key: its name in scores.json.
        label: its name in tables.
        source: whose counts it is read from, "model" or "ndvi".
        threshold: at which they are read.
    """

    key: str
    label: str
    source: str
    threshold: float


@dataclasses.dataclass(frozen=True)
class SceneResult:
    """What was counted on one scene.

    Attributes:
        scene: its name.
        frames: how many of its frames the model saw.
        unseen: how many pixels of the label no frame held data for; they are called not cultivated.
        tallies: the counts of "model", at `training.scores.THRESHOLDS`, and "ndvi", where there is a baseline.
        curves: for the same systems, MCC at each threshold by how many of the clearest frames were used; empty where
            no curve was asked for.
        uncertainties: by how many of the clearest frames were used, sums of the model's map from which the trust in its
            probabilities follows, by the entropy of the probability; empty where that was not asked for.
        own: the same by the model's own uncertainty, where it gives one.
    """

    scene: str
    frames: int
    unseen: int
    tallies: Mapping[str, Tally]
    curves: Mapping[str, Mapping[int, np.ndarray]]
    uncertainties: Mapping[int, UncertaintyTally] = dataclasses.field(default_factory=dict)
    own: Mapping[int, UncertaintyTally] = dataclasses.field(default_factory=dict)

    def score(self, system: System) -> Score:
        """The scores of a system on this scene."""
        return self.tallies[system.source].score(system.threshold)

    def curve_mcc(self, system: System, frames: int) -> float:
        """MCC of a system given so many of the clearest frames, or all where the scene has fewer."""
        mcc = self.curves[system.source][min(frames, self.frames)]
        return float(mcc[self.tallies[system.source].thresholds == system.threshold][0])


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything that the reports tell.

    Attributes:
        model: the name of the model's class.
        model_file: where it was read from.
        data: where the scenes are.
        split: which of them train and which were scored, in words.
        max_cloud: the cloudy fraction of a frame that the model sees at most.
        chosen: the threshold chosen on validation scenes; None where there was nothing to choose it on.
        chosen_on: on which, in words.
        ndvi: the baseline's thresholds; None without one.
        ndvi_origin: where they come from, or why there is no baseline, in words.
        scenes: what was found on each scene.
    """

    model: str
    model_file: str
    data: str
    split: str
    max_cloud: float
    chosen: float | None
    chosen_on: str
    ndvi: tuple[float, float] | None
    ndvi_origin: str
    scenes: Sequence[SceneResult]

    def systems(self) -> list[System]:
        """What is compared: the model at 0.5 and at the threshold chosen, and the NDVI baseline."""
        systems = [System("model", f"{self.model} at {THRESHOLD}", "model", THRESHOLD)]
        if self.chosen is not None:
            systems.append(System("model_at_chosen", f"{self.model} at {self.chosen:g}, chosen", "model", self.chosen))
        if self.ndvi is not None:
            systems.append(System("ndvi", "NDVI", "ndvi", NDVI_THRESHOLD))
        return systems

    def mean(self, system: System) -> Score:
        """The mean of a system's scores over the scenes."""
        return mean_score([scene.score(system) for scene in self.scenes])

    def together(self, system: System) -> Score:
        """A system's scores on the pixels of all scenes together."""
        tallies = [scene.tallies[system.source] for scene in self.scenes]
        return functools.reduce(operator.add, tallies).score(system.threshold)

    def has_curve(self) -> bool:
        """Whether MCC against the number of frames was asked for."""
        return any(scene.curves for scene in self.scenes)

    def has_uncertainty(self) -> bool:
        """Whether the trust in the model's probabilities was asked for."""
        return any(scene.uncertainties for scene in self.scenes)

    def has_own(self) -> bool:
        """Whether the model's own uncertainty was looked at too."""
        return any(scene.own for scene in self.scenes)

    def trust(self, own: bool = False, frames: int | None = None) -> UncertaintyTally:
        """The sums of all scenes, of maps from so many of the clearest frames, or all."""
        tallies = [scene.own if own else scene.uncertainties for scene in self.scenes]
        return functools.reduce(
            operator.add,
            (
                tally[min(frames or scene.frames, scene.frames)]
                for tally, scene in zip(tallies, self.scenes, strict=True)
            ),
        )

    def steps(self) -> list[int]:
        """The numbers of frames that the curve goes through; the last is all frames of every scene."""
        return frame_steps(max(scene.frames for scene in self.scenes))

    def mean_curve_mcc(self, system: System, frames: int) -> float:
        """The mean over the scenes of MCC given so many of the clearest frames."""
        return statistics.fmean(scene.curve_mcc(system, frames) for scene in self.scenes)

    def notes(self) -> list[str]:
        """What the figures mean, a sentence or two each."""
        notes = [
            f"{self.model} at {THRESHOLD}: land is called cultivated where its probability exceeds {THRESHOLD}, which "
            "no data chose."
        ]
        if self.chosen is not None:
            notes.append(f"{self.model} at {self.chosen:g}: the threshold with the highest mean MCC, {self.chosen_on}")
        baseline = f"cultivated from {self.ndvi[0]:.3f} to {self.ndvi[1]:.3f}, " if self.ndvi else ""
        notes.append(f"NDVI baseline: {baseline}{self.ndvi_origin}")
        notes += [
            "MCC: Matthews' correlation with every known pixel counting once, as in the paper. Weighted MCC: the same "
            "with the weights of the AI4EO challenge's score; the two are different figures. Precision, recall, F1 and "
            "IoU are those of cultivated land, every known pixel counting once.",
            f"Within {BOUNDARY_PIXELS} px: at most {BOUNDARY_PIXELS} label pixels from one that borders on the other "
            "class, for these are the only boundaries of parcels that a label tells.",
            "Clear frames: how many of the frames that the model saw show a pixel clear of clouds.",
        ]
        if self.has_curve():
            notes.append(
                "Frames used: the clearest ones; a scene with fewer takes part with all it has. The last column is all "
                f"frames with at most {self.max_cloud:.0%} of cloud, as everywhere else."
            )
        if self.has_uncertainty():
            notes.append(
                "ECE: mean over the pixels of |share of cultivated land - mean probability| in 15 equal intervals of "
                "the probability of cultivated land. Area under risk: the mean part of wrong pixels, over how many of "
                "the least uncertain ones are kept; excess: over that of a perfect order. Errors found: average "
                "precision of wrong pixels by their uncertainty, by chance the error rate. Pixels that no frame holds "
                "data for do not count here."
            )
        notes.append(
            "Mean: over scenes, of groups of pixels over the scenes that have some. Together: the pixels of all scenes "
            "counted as one. A score that is not defined, such as MCC where there is one class only, is 0. Unknown "
            "pixels never count; those that no frame holds data for are called not cultivated."
        )
        return notes

    def summary(self) -> dict[str, Any]:
        """Everything for scores.json."""
        systems = self.systems()
        thresholds: dict[str, Any] = {system.key: system.threshold for system in systems}
        if self.ndvi is not None:
            thresholds["ndvi"] = list(self.ndvi)
        summary: dict[str, Any] = {
            "model": self.model_file,
            "data": self.data,
            "split": self.split,
            "max_cloud": self.max_cloud,
            "thresholds": thresholds,
            "scenes": [self._scene_summary(scene) for scene in self.scenes],
            "mean": {system.key: dataclasses.asdict(self.mean(system)) for system in systems},
            "together": {system.key: dataclasses.asdict(self.together(system)) for system in systems},
            "notes": self.notes(),
        }
        if self.has_uncertainty():
            summary["uncertainty"] = {
                name: self._trust_summary(own)
                for name, own in (("entropy", False), ("own", True))
                if not own or self.has_own()
            }
        if self.has_curve():
            steps = self.steps()
            summary["mean"]["curve"] = {
                "frames": steps,
                **{system.key: [self.mean_curve_mcc(system, step) for step in steps] for system in systems},
            }
        return summary

    def _trust_summary(self, own: bool) -> dict[str, Any]:
        tally = self.trust(own)
        found = {place: tally.trust(place) for place in PLACES}
        mean, share, pixels = (values.tolist() for values in tally.reliability())
        summary: dict[str, Any] = {
            **{place: dataclasses.asdict(trust) for place, trust in found.items() if trust},
            "reliability": {"mean_probability": mean, "cultivated": share, "pixels": pixels},
            "by_clear_frames": tally.by_clear_frames(),
        }
        if self.has_curve():
            by_frames = {step: self.trust(own, step).trust() for step in self.steps()}
            summary["by_frames"] = {step: dataclasses.asdict(trust) for step, trust in by_frames.items() if trust}
        return summary

    def _scene_summary(self, scene: SceneResult) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "scene": scene.scene,
            "frames": scene.frames,
            "unseen_pixels": scene.unseen,
            "pixels_by_clear_frames": scene.tallies["model"].pixels_by_clear_frames(),
            **{system.key: dataclasses.asdict(scene.score(system)) for system in self.systems()},
        }
        if scene.curves:
            steps = frame_steps(scene.frames)
            summary["curve"] = {
                "frames": steps,
                **{system.key: [scene.curve_mcc(system, step) for step in steps] for system in self.systems()},
            }
        return summary
