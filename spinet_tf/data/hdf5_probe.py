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
    """Read what opening reads: names, attributes, small variables whole, and where the chunks of others are."""
    with h5py.File(path, "r") as file:
        waiting, seen = [file], set()
        while waiting:
            item = waiting.pop()
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:  # groups may contain each other
                continue
            seen.add(address)
            dict(item.attrs)
            if isinstance(item, h5py.Group):
                waiting += item.values()
            elif isinstance(item, h5py.Dataset) and item.shape is not None:
                _probe_values(item)


def _probe_values(variable: h5py.Dataset) -> None:
    if variable.size * variable.dtype.itemsize <= _SMALL:
        variable[()]
    elif variable.chunks is not None:
        for number in range(variable.id.get_num_chunks()):
            variable.id.get_chunk_info(number)


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
