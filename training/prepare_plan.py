"""What is to be prepared, and whether it can be: found out before any work is done."""

import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from spinet_tf.data.headers import Header, read_header
from spinet_tf.data.shards import MANIFEST, UnreadableError, read_manifest, read_record, require_bytes
from spinet_tf.errors import SpinetError
from spinet_tf.progress import track
from training.prepare_scene import Settings, fingerprint
from training.split import Part

# A folder with one of these is an EOPatch, if perhaps an incomplete one.
_FEATURES = ("data", "mask", "mask_timeless")

# How many scenes a message names.
_NAMED = 10


def incomplete_scenes(data: Path, scenes: Iterable[Path]) -> dict[str, str]:
    """EOPatches in a folder that lack their bands, and are therefore none of its scenes: name and problem of each."""
    others = set(data.iterdir()) - set(scenes) if data.is_dir() and data not in scenes else set()
    return {
        path.name: f"{path / 'data'} has no BANDS. Copy or download it again."
        for path in sorted(others)
        if any((path / feature).is_dir() for feature in _FEATURES)
    }


def read_headers(parts: Sequence[Part]) -> tuple[dict[Part, Header], dict[str, str]]:
    """The headers of parts by part, and what is wrong with the scenes that cannot even be looked at, by scene."""
    headers, problems = {}, {}
    for part in track(parts, "Looking at the scenes", len(parts)):
        try:
            headers[part] = read_header(part.path)
        except SpinetError as error:
            problems[part.scene] = str(error)
    return headers, problems


def check_headers(headers: Mapping[Part, Header], patch: int, bands: Sequence[str] | None) -> tuple[str, ...]:
    """The bands of all scenes.

    Args:
        headers: of at least one part.
        patch: height and width of patches.
        bands: those asked for; None for all, which must then be the same everywhere.

    Raises:
        SpinetError: if a scene lacks a band, has others than the first, has no label, one less fine than the first has,
            or is smaller than a patch.
    """
    first, model = next(iter(headers.items()))
    wanted = tuple(bands or model.bands)
    if len(set(wanted)) < len(wanted):
        raise SpinetError(f"Expected different bands. Received: {', '.join(wanted)}")
    for part, header in headers.items():
        if not set(wanted) <= set(header.bands) or (bands is None and len(header.bands) > len(wanted)):
            as_where = "" if bands else f", as in {first.scene}"
            shared = [band for band in wanted if all(band in other.bands for other in headers.values())]
            advice = f"Pass --bands {' '.join(shared)} to use those that all scenes have." if shared else ""
            found = ", ".join(header.bands)
            raise SpinetError(f"Expected the bands {', '.join(wanted)}{as_where}. {part.scene} has {found}. {advice}")
        if header.scale is None:
            raise SpinetError(
                f"{part.scene} has no label. Expected CULTIVATED in an EOPatch, or a variable `label` (1 cultivated, 0 "
                "not, 255 unknown). Add it, or take the scene away."
            )
        if header.scale != model.scale:
            raise SpinetError(
                f"Expected labels {model.scale} times finer than images, as in {first.scene}. {part.scene}: "
                f"{header.scale} times"
            )
        rows = part.rows(header.height)
        height, width = rows.stop - rows.start, header.width
        if patch > min(height, width):
            raise SpinetError(
                f"Expected a patch of at most {min(height, width)} pixels, the smaller side of {part.name} "
                f"({height}x{width}). Received: {patch}"
            )
    return wanted


def most_bytes(parts: Iterable[Part], headers: Mapping[Part, Header], bands: int) -> int:
    """How large shards of these parts are if no frame is cloudy: images of so many bands, labels and weights."""
    total = 0
    for part in parts:
        header = headers[part]
        rows = part.rows(header.height)
        pixels = (rows.stop - rows.start) * header.width
        total += pixels * (2 * header.frames * bands + 5 * (header.scale or 1) ** 2)
    return total


def require_room(most: int, folder: Path) -> str:
    """Raise a SpinetError if shards of at most that size cannot fit; say so if perhaps they do not, else nothing."""
    free = shutil.disk_usage(folder).free
    text = f"{folder} has room for {free / 1e9:,.1f} GB. The shards take up to {most / 1e9:,.1f} GB"
    # Frames are left out of patches where they are cloudy: seldom more than half of them, hardly ever three quarters.
    if free < most / 4:
        raise SpinetError(f"{text}. Choose another folder.")
    return "" if free >= most else f"{text}, less where frames are cloudy"


def unfinished(parts: Sequence[Part], settings: Settings, folder: Path) -> tuple[list[Part], dict[str, str]]:
    """Which parts are still to be prepared.

    Args:
        parts: what is to be there in the end.
        settings: with these settings.
        folder: the folder of shards.

    Returns:
        The parts to prepare; and, for those of them that are there already but not as they should be, what is wrong
        with them, by name.
    """
    todo, conflicts = [], {}
    for part in parts:
        record = folder / f"{part.name}.json"
        conflict = _conflict(record, part, settings) if record.exists() else ""
        if conflict:
            conflicts[part.name] = conflict
        if conflict or not _is_whole(record):
            todo.append(part)
    return todo, conflicts


def foreign_manifest(output: Path) -> dict[str, str]:
    """What is wrong with the manifest of a folder, by name; nothing where there is none."""
    try:
        if (output / MANIFEST).exists():
            read_manifest(output)
    except UnreadableError:
        return {}
    except SpinetError as error:
        return {MANIFEST: str(error)}
    return {}


def listed(reasons: Mapping[str, str]) -> list[str]:
    """Lines that say what is wrong with what, those of the same reason as one."""
    lines = []
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, other in reasons.items() if other == reason]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"{', '.join(names[:_NAMED])}{more}: {reason}")
    return lines


def _conflict(record: Path, part: Part, settings: Settings) -> str:
    try:
        content = read_record(record)
    except UnreadableError:
        # As good as absent: it is written anew.
        return ""
    except SpinetError as error:
        return str(error)
    # As JSON gives it back: tuples are lists there.
    asked = json.loads(json.dumps(dataclasses.asdict(settings)))
    found = content.get("settings")
    if not isinstance(found, dict):
        return f"{record} names no settings"
    differing = [key for key in asked if found.get(key) != asked[key]]
    if differing:
        return f"prepared with {_listed(found, differing)}. Asked for: {_listed(asked, differing)}"
    if content.get("fingerprint") != fingerprint(part.path):
        return "changed since it was prepared"
    return ""


def _is_whole(record: Path) -> bool:
    """Whether a record and its files are there, as large as they were."""
    try:
        for name, entry in read_record(record)["files"].items():
            require_bytes(record.parent / name, entry["bytes"])
    except (SpinetError, LookupError, TypeError, AttributeError):
        return False
    return True


def _listed(settings: Mapping, keys: Iterable[str]) -> str:
    values = {key: settings.get(key) for key in keys}
    return ", ".join(f"{key} {' '.join(value) if isinstance(value, list) else value}" for key, value in values.items())
