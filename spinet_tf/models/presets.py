"""Trained models that come with the package."""

from pathlib import Path

# Their folders lie beside this file, each with the model and a card that says what it was trained on.
PRESETS = ("tiny-simulated",)


def preset_path(name: str) -> Path:
    """Return the `.keras` file of a preset.

    Args:
        name: one of `PRESETS`.

    Returns:
        Its path in the installed package.

    Raises:
        ValueError: if there is no such preset.

    Example:
        >>> keras.models.load_model(preset_path("tiny-simulated"), compile=False)
    """
    if name not in PRESETS:
        raise ValueError(f"Expected a preset of {', '.join(PRESETS)}. Received: {name!r}")
    return Path(__file__).parent / "weights" / name / "model.keras"
