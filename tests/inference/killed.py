"""A map that is begun over and over, because something kills the process each time, until nothing does.

python -m tests.inference.killed map.tif
"""

import os
import signal
import sys
from pathlib import Path

from spinet_tf.inference import groups, predict_scene
from tests.inference.scenes import MeanEngine, make_scene

# What is called the last, and how often it was called before.
POINTS = [
    ("spinet_tf.inference.restart.replacing", 0),
    ("tests.inference.scenes.real_means", 1),
    ("tests.inference.scenes.real_means", 5),
    ("os.replace", 0),
    ("os.replace", 2),
    ("os.fsync", 2),
    ("shutil.rmtree", 1),
    ("tests.inference.scenes.real_means", 5),
    ("spinet_tf.inference.assembly._block", 0),
    ("spinet_tf.inference.geotiff.copy", 0),
    ("spinet_tf.inference.geotiff.copy", 2),
    ("os.replace", 0),
    ("os.replace", 2),
    ("shutil.rmtree", 4),
]


def main() -> None:
    """Die at each point, then end well; print what each run died of, and how many parts it left."""
    output = Path(sys.argv[1])
    groups.SIDE = 20
    for name, count in [*POINTS, ("nothing", 0)]:
        child = os.fork()
        if not child:
            if name != "nothing":
                _make_deadly(name, count)
            predict_scene(
                MeanEngine(),
                make_scene(40, 40),
                output,
                tile=16,
                overlap=4,
                uncertainty=True,
                valid_frames=True,
                threshold=0.5,
            )
            os._exit(0)
        end = os.WTERMSIG(os.waitpid(child, 0)[1])
        print(name, end, len(list(output.parent.glob(".map.tif.parts/*.h5"))), flush=True)


def _make_deadly(name: str, count: int) -> None:
    module, _, attribute = name.rpartition(".")
    function = getattr(sys.modules[module], attribute)
    calls = []

    def deadly(*args, **kwargs):
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(args)
        return function(*args, **kwargs)

    setattr(sys.modules[module], attribute, deadly)


if __name__ == "__main__":
    main()
