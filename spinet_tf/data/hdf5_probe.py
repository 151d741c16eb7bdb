"""A program that opens HDF5 files on trial; `spinet_tf.data.hdf5_check` starts it, by its path.

It reads the paths of files from its standard input, one a line, and answers each with a line: "ok", or what is wrong.
It imports nothing of this project, so that it starts quickly.
"""

import resource
import sys

import h5py

# Bytes that reading a file on trial may take; and of the variables that are read whole.
_MEMORY = 4 << 30
_SMALL = 1 << 20


def probe(path: str) -> None:
    """Read what opening a scene reads: names, attributes, small variables whole, and where the chunks of others are."""
    with h5py.File(path, "r") as file:
        dict(file.attrs)
        for item in file.values():
            dict(item.attrs)
            if not isinstance(item, h5py.Dataset) or item.shape is None:
                continue
            if item.size * item.dtype.itemsize <= _SMALL:
                item[()]
            elif item.chunks is not None:
                for number in range(item.id.get_num_chunks()):
                    item.id.get_chunk_info(number)


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for line in sys.stdin:
        try:
            probe(line.rstrip("\n"))
            answer = "ok"
        except Exception as error:
            answer = f"{error or type(error).__name__}"
        print(" ".join(answer.split()), flush=True)


if __name__ == "__main__":
    main()
