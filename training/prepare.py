"""Prepare labelled scenes for training: cut them into patches once, so that training reads only what it uses.

The output folder receives shards/, TFRecords of patches with an index beside each, and manifest.json, which says what
they hold and which of them train and which validate; `spinet_tf.data.shards` documents both. Run the same command again
after an interruption, or when there are more scenes: what is finished is kept.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from spinet_tf.data.patches import Weights
from spinet_tf.data.scene import find_scenes
from spinet_tf.data.shards import FORMAT, MANIFEST, SHARDS, VERSION, read_manifest, read_record
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.progress import track
from training.config import Config, load_config
from training.moments import Moments
from training.output import prepare_output
from training.prepare_plan import (
    check_headers,
    foreign_manifest,
    incomplete_scenes,
    listed,
    most_bytes,
    read_headers,
    require_room,
    unfinished,
)
from training.prepare_scene import SceneTask, Settings, file_entry, fingerprint, prepare_scene, write_json
from training.processes import in_processes
from training.split import Part, Split, default_validation, split_scenes

EPILOG = """examples:
  python -m training.prepare train prepared
  python -m training.prepare train prepared --config training/configs/ai4eo.yaml --workers 8
  python -m training.prepare train prepared --patch 24 --bands B02 B03 B04 B08 --validation eopatch-902 eopatch-903
  python -m training.prepare train prepared --check
"""


# Bytes of shards that take about as long to write as a process takes to start.
_WORTH_A_PROCESS = 200_000_000


def prepare(
    data: Path,
    output: Path,
    patch: int = 32,
    bands: Sequence[str] | None = None,
    split: str = "auto",
    validation_scenes: int | Sequence[str] | None = None,
    weights: Weights = "ai4eo",
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Cut scenes into patches and write them as shards, with a manifest.

    Each process holds one scene: one of the AI4EO challenge takes about 0.8 GB while it is prepared. Very large scenes
    that are stored in chunks (.nc, .zarr) are read in strips.

    Args:
        data: a scene, or a folder of scenes, with labels.
        output: the folder to write.
        patch: height and width of patches, in pixels of the images.
        bands: names of the bands to keep; None for all, which must then be the same in every scene.
        split: see `split_scenes`.
        validation_scenes: see `split_scenes`; None for those of the paper where they are all there, else the last one.
        weights: what label pixels weigh besides "uniform", which needs nothing stored: "ai4eo" or "scene".
        workers: how many scenes are prepared at a time, each in its own process; None for one for each processor, if
            there is enough to do.
        overwrite: whether shards of changed scenes, of other settings and of scenes no longer there may be replaced.

    Raises:
        SpinetError: if scenes or output cannot be used. A scene that turns out to be damaged does not keep the others
            from being prepared; the manifest is then not written.

    Example:
        prepare(Path("train"), Path("prepared"), patch=32)
    """
    paths = find_scenes(data)
    chosen = split_scenes(paths, split, validation_scenes or default_validation(paths))
    parts = [*chosen.training, *chosen.validation]
    headers, problems = read_headers(parts)
    problems |= incomplete_scenes(data, paths)
    if not headers:
        raise SpinetError(_listed_problems(problems, data))
    settings = Settings(patch, check_headers(headers, patch, bands), weights)
    print(f"Split: {chosen}")
    prepare_output(output / SHARDS, [], overwrite=False)
    with _locked(output / SHARDS) as folder:
        todo, conflicts = unfinished([part for part in parts if part in headers], settings, folder)
        strangers = sorted({path.stem for path in folder.glob("*.json")} - {part.name for part in parts})
        conflicts |= dict.fromkeys(strangers, f"in {folder}, but none of the scenes to prepare")
        conflicts |= foreign_manifest(output)
        if conflicts and not overwrite:
            raise SpinetError("\n  ".join([f"{output} cannot be used as it is:", *listed(conflicts), _OVERWRITE]))
        _remove_leftovers(output)
        most = most_bytes(todo, headers, len(settings.bands))
        if caution := require_room(most, folder):
            warnings.warn(caution, stacklevel=2)
        if todo or problems or conflicts:
            # From here to the end of the work it would not be true.
            (output / MANIFEST).unlink(missing_ok=True)
        for name in strangers:
            for suffix in (".json", ".npz", ".tfrecord"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
        started = time.monotonic()
        if workers is None:
            workers = min(os.cpu_count() or 1, 1 + most // _WORTH_A_PROCESS)
        problems |= _prepare_all(todo, settings, folder, workers)
        if problems:
            raise SpinetError(_listed_problems(problems, data))
        manifest = _manifest(chosen, settings, folder)
        write_json(output / MANIFEST, manifest)
    done = len({part.scene for part in todo})
    others = f"; {len(paths) - done} were finished before" if done < len(paths) else ""
    print(f"Prepared {done} of {len(paths)} scenes in {time.monotonic() - started:.1f} s{others}")
    _print_summary(manifest, output)


def check(data: Path, output: Path) -> None:
    """Compare every file of a prepared folder with its checksum, and every scene with what was prepared.

    Args:
        data: the scenes.
        output: what `prepare` wrote.

    Raises:
        SpinetError: if a file is damaged or missing, or a scene is missing or has changed, naming all of them.
    """
    scenes = read_manifest(output)["scenes"]
    entries = [(output / SHARDS / name, entry) for scene in scenes for name, entry in scene["files"].items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        same = list(track(pool.map(_is_unchanged, entries), "Comparing checksums", len(entries)))
    damaged = [str(path) for (path, _), unchanged in zip(entries, same, strict=True) if not unchanged]
    paths = {Part(path).scene: path for path in find_scenes(data)}
    prints = {scene["scene"]: scene["fingerprint"] for scene in scenes}
    changed = [name for name, print_ in prints.items() if name not in paths or fingerprint(paths[name]) != print_]
    problems = []
    if damaged:
        problems.append(f"Damaged or missing: {', '.join(damaged)}. Delete them and run without --check.")
    if changed:
        problems.append(f"Scenes changed since they were prepared: {', '.join(changed)}. {_OVERWRITE}")
    if problems:
        raise SpinetError("\n  ".join(problems))
    print(f"All {len(entries)} files in {output / SHARDS} are as they were written, and {len(prints)} scenes as then")


_OVERWRITE = "Pass --overwrite to prepare it again, or choose another output folder."


def _prepare_all(parts: Sequence[Part], settings: Settings, folder: Path, workers: int) -> dict[str, str]:
    """Prepare parts, scene by scene; the problem of each scene that cannot be used, by its name."""
    by_scene = groupby(sorted(parts, key=lambda part: part.path), key=lambda part: part.path)
    tasks = [SceneTask(list(group), settings, folder) for _, group in by_scene]
    problems = {}
    finished = 0
    try:
        with contextlib.closing(in_processes(prepare_scene, tasks, workers)) as results:
            for result in track(results, "Preparing scenes", len(tasks)):
                for warning in result.warnings:
                    warnings.warn(warning, stacklevel=2)
                if result.problem:
                    problems[result.scene] = result.problem
                finished += not result.problem
    except BaseException:
        # Processes that were ended leave what they were writing, under hidden names.
        _remove_leftovers(folder.parent)
        print(f"{finished} of {len(tasks)} scenes were finished and are kept", file=sys.stderr)
        raise
    return problems


def _manifest(split: Split, settings: Settings, folder: Path) -> dict[str, Any]:
    scenes, moments, scale = [], [], 1
    for role, parts in split._asdict().items():
        for part in parts:
            path = folder / f"{part.name}.json"
            record = read_record(path)
            scale = record["scale"]
            if role == "training":
                moments.append(Moments(**record["moments"]))
            entry = {key: record[key] for key in ("name", "scene", "half", "fingerprint", "counts")}
            files = {**record["files"], path.name: file_entry(path)}
            scenes.append({**entry, "role": role, "files": files})
    mean, std = Moments.sum(moments).statistics()
    return {
        "format": FORMAT,
        "version": VERSION,
        "bands": settings.bands,
        "scale": scale,
        "patch": settings.patch,
        "weights": settings.weights,
        "mean": mean,
        "std": std,
        "split": str(split),
        "counts": {role: _counts(scene for scene in scenes if scene["role"] == role) for role in split._fields},
        "scenes": scenes,
    }


def _counts(scenes) -> dict[str, int]:
    counts = [scene["counts"] for scene in scenes]
    return {key: sum(count[key] for count in counts) for key in counts[0]}


def _print_summary(manifest: dict[str, Any], output: Path) -> None:
    size = sum(entry["bytes"] for scene in manifest["scenes"] for entry in scene["files"].values())
    patch = manifest["patch"]
    print(f"Wrote {output / MANIFEST} and {output / SHARDS}, {size / 1e6:,.1f} MB")
    for role, counts in manifest["counts"].items():
        print(
            f"  {role:<10}  {counts['patches']:,} patches of {patch}x{patch} pixels, "
            f"{counts['cultivated'] / counts['known']:.1%} cultivated, "
            f"{counts['frames']:,} frames, {counts['frames'] / counts['patches']:.1f} in a patch"
        )


def _listed_problems(problems: dict[str, str], data: Path) -> str:
    count = f"{len(problems)} scene{'' if len(problems) == 1 else 's'}"
    return "\n  ".join(
        [
            f"{count} cannot be used, and without them there is no manifest:",
            *listed(dict(sorted(problems.items()))),
            f"Repair them, or take them out of {data}, and run the same command again: what is finished is kept.",
        ]
    )


def _is_unchanged(file: tuple[Path, dict[str, Any]]) -> bool:
    path, entry = file
    return path.is_file() and file_entry(path) == entry


def _remove_leftovers(output: Path) -> None:
    """Remove what an earlier run was writing when it was killed; see `spinet_tf.files.replacing`."""
    for path in (*(output / SHARDS).glob(".*"), *output.glob(f".{MANIFEST}.*")):
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Keep a second command out of a folder; the lock ends with this process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems know no locks: there, it is up to the user.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SpinetError(f"Another training.prepare writes to {folder}. Wait until it ends.") from None
        yield folder
    finally:
        os.close(descriptor)


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="labelled scenes, or one: EOPatches, .nc, .zarr")
    add("output", type=Path, metavar="OUT", help="the folder to write")
    add("--config", type=Path, metavar="FILE", help="a training configuration: patch, bands, split, validation_scenes")
    add("--patch", type=_positive, metavar="PIXELS", help="height and width of patches (default: 32)")
    add("--bands", nargs="+", metavar="BAND", help="names of the bands to keep (default: all)")
    add(
        "--split",
        choices=("auto", "scenes", "rows"),
        help="rows: upper halves train, lower halves validate; auto: scenes, if there are several (default: auto)",
    )
    add(
        "--validation",
        nargs="+",
        metavar="SCENE",
        help="names of the scenes that validate, or how many, the last ones (default: those of the paper if they are "
        "all there, else the last one)",
    )
    add(
        "--weights",
        choices=("ai4eo", "scene"),
        help="weights to store: those of the challenge's score, or the scenes' own `weight` (default: ai4eo). Training "
        "with uniform weights needs neither",
    )
    add(
        "--workers",
        type=_positive,
        metavar="N",
        help="scenes at a time, 0.8 GB of memory each (default: one for each processor)",
    )
    add("--overwrite", action="store_true", help="prepare again what has changed or has other settings")
    add("--check", action="store_true", help="only compare what was prepared with its checksums")
    arguments = parser.parse_args(argv)
    if arguments.check:
        check(arguments.data, arguments.output)
        return
    config = load_config(arguments.config) if arguments.config else Config()
    validation = arguments.validation
    if validation and len(validation) == 1 and validation[0].isdigit():
        validation = int(validation[0]) or parser.error("--validation: expected 1 or more, received 0")
    prepare(
        arguments.data,
        arguments.output,
        arguments.patch or config.patch,
        arguments.bands or config.bands,
        arguments.split or config.split,
        validation or (config.validation_scenes if arguments.config else None),
        arguments.weights or ("scene" if config.weights == "scene" else "ai4eo"),
        arguments.workers,
        arguments.overwrite,
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, received {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
