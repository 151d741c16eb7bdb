"""Scoring one scene: the model's map and the baseline's against its label."""

import dataclasses
import warnings

import numpy as np
import xarray as xr

from spinet_tf.data.patches import label_scale, labelled
from spinet_tf.data.scene import clear_fraction, require_valid_frames, select_bands
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import Engine, gives_uncertainty
from spinet_tf.inference.scene import predict_scene
from spinet_tf.models.ndvi import NDVIThresholds
from spinet_tf.tiling.frames import choose_frames
from training.pictures import Picture, scene_pictures, uncertainty_picture
from training.results import NDVI_THRESHOLD, SceneResult
from training.scores import THRESHOLDS, Truth, frame_steps
from training.split import Part
from training.uncertainty_scores import UncertaintyTally, tally_uncertainty

# The challenge's season, March to August, to which the NDVI baseline belongs, and its bands.
SEASON = range(3, 9)
NDVI_BANDS = ("B04", "B08")


def look(part: Part, engine: Engine) -> str:
    """Open a scene, and find out whether it can be scored.

    Args:
        part: the scene, or half of one.
        engine: the model that will map it.

    Returns:
        Why there can be no NDVI baseline, or nothing.

    Raises:
        SpinetError: if the scene has no label, no valid frame, not the model's bands, or a label of another scale.
    """
    scene = labelled(part())
    require_valid_frames(scene)
    select_bands(scene, engine.band_names or ())
    name, scale = scene.attrs["name"], label_scale(scene)
    if scale != engine.scale:
        raise SpinetError(
            f"Expected labels {engine.scale} times finer than the images, as the model's maps are. {name}: {scale} "
            "times. Choose other scenes, or a model trained on scenes like these."
        )
    absent = [band for band in NDVI_BANDS if band not in scene["band"].values]
    return f"{name} lacks {' and '.join(absent)}" if absent else ""


def ndvi_inputs(scene: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Red, near infrared, valid and label of a scene, of its frames from March to August where it has dates then."""
    if "time" in scene.coords:
        season = scene.isel(time=np.flatnonzero(scene["time"].dt.month.isin(SEASON)))
        if season["valid"].any():
            scene = season
    red, nir = select_bands(scene, NDVI_BANDS)["bands"].transpose("band", ...).to_numpy()
    return red, nir, scene["valid"].to_numpy(), scene["label"].to_numpy()


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores scenes, each opened, mapped and let go of by itself.

    Attributes:
        engine: the model.
        baseline: NDVI thresholds, or None where they have no bands.
        max_cloud: the cloudy fraction of a frame that the model sees at most.
        curve: whether MCC by number of frames is computed too.
        name: the model's, for the titles of pictures.
        shown_at: the threshold of the map in the pictures.
        uncertainty: whether the trust in the model's probabilities is counted, and its uncertainty drawn.

    Example:
        result, pictures = Scorer(engine, NDVIThresholds(), 0.25, True, "SPInet", 0.5).score(Part(Path("eopatch-902")))
    """

    engine: Engine
    baseline: NDVIThresholds | None
    max_cloud: float
    curve: bool
    name: str
    shown_at: float
    uncertainty: bool = False

    def score(self, part: Part) -> tuple[SceneResult, list[Picture]]:
        """Map a scene with every frame that is clear enough; count, and draw."""
        scene = labelled(part())
        seen = scene.isel(time=choose_frames(clear_fraction(scene), max_cloud=self.max_cloud)).load()
        scale, frames = self.engine.scale, seen.sizes["time"]
        clear = seen["valid"].sum("time").to_numpy()
        truth = Truth(seen["label"].to_numpy(), clear.repeat(scale, axis=0).repeat(scale, axis=1))

        mapped = self._map(seen, frames)
        probability = mapped["probability"].to_numpy()
        trust = self._trust(truth, mapped)
        trusts = {} if trust is None else {frames: trust}
        ndvi_map = self.baseline.predict(*ndvi_inputs(scene)[:3]) if self.baseline else None
        tallies = {"model": truth.tally(probability, THRESHOLDS)}
        if ndvi_map is not None:
            tallies["ndvi"] = truth.tally(ndvi_map, [NDVI_THRESHOLD])
        curves = {}
        if self.curve:
            # With all frames these are the maps made already; the baseline has its own rule for clear frames.
            curves = {system: {frames: tally.mcc_at_thresholds()} for system, tally in tallies.items()}
            for count in frame_steps(frames)[:-1]:
                few = self._map(seen, count)
                tally = truth.tally(few["probability"].to_numpy(), THRESHOLDS)
                curves["model"][count] = tally.mcc_at_thresholds()
                trust = self._trust(truth, few)
                if trust is not None:
                    trusts[count] = trust
                if self.baseline:
                    few_map = self._ndvi_map(seen, count, self.baseline)
                    curves["ndvi"][count] = truth.tally(few_map, [NDVI_THRESHOLD]).mcc_at_thresholds()
        result = SceneResult(
            scene=scene.attrs["name"],
            frames=frames,
            unseen=int(np.isnan(probability).sum()),
            tallies=tallies,
            curves=curves,
            uncertainties={count: entropy for count, (entropy, _) in trusts.items()},
            own={count: own for count, (_, own) in trusts.items() if own is not None},
        )
        pictures = scene_pictures(seen, probability, self.shown_at, ndvi_map, self.name)
        if self.uncertainty:
            pictures.append(uncertainty_picture(mapped["uncertainty"]))
        return result, pictures

    def _map(self, seen: xr.Dataset, count: int) -> xr.Dataset:
        return predict_scene(self.engine, seen, frames="clearest", count=count, uncertainty=self.uncertainty)

    def _trust(self, truth: Truth, mapped: xr.Dataset) -> tuple[UncertaintyTally, UncertaintyTally | None] | None:
        """What is counted of a map by the entropy of its probability, and by the model's own uncertainty."""
        if not self.uncertainty:
            return None
        probability, uncertainty = (mapped[name].to_numpy() for name in ("probability", "uncertainty"))
        own = tally_uncertainty(truth, probability, uncertainty) if gives_uncertainty(self.engine) else None
        return tally_uncertainty(truth, probability), own

    def _ndvi_map(self, seen: xr.Dataset, count: int, baseline: NDVIThresholds) -> np.ndarray:
        fewer = seen.isel(time=choose_frames(clear_fraction(seen), "clearest", count))
        with warnings.catch_warnings():
            # That no frame is clear enough was said of the whole scene.
            warnings.simplefilter("ignore", UserWarning)
            return baseline.predict(*ndvi_inputs(fewer)[:3])
