"""Random damage to files, as disks, downloads and enemies do it."""

import re

import numpy as np

# Numbers at which programs break: around the limits of integers, negative, huge, not finite.
_NUMBERS = (
    b"0", b"-1", b"1", b"255", b"65536", b"2147483647", b"-2147483648", b"4294967296", b"9223372036854775807",
    b"99999999999999999999",
    b"1e308", b"-1e308", b"1e999", b"NaN", b"Infinity", b"0.1", b"null", b'"text"', b"[]", b"{}",
)  # fmt: skip
_WORDS = (
    b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x80\x00\x00\x00",
    b"\x01\x00\x00\x00", b"\xff" * 8, b"\x00" * 8, b"\xff" * 7 + b"\x7f", b"\x00\x00\x00\x40", b"\x00\x00\x01\x00",
)  # fmt: skip


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Damaged data: one to four mutations, each of a kind and at a place drawn by chance; never equal to `data`."""
    damaged = data
    while damaged == data:
        for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
            damaged = _MUTATIONS[rng.integers(len(_MUTATIONS))](damaged, rng)
    return damaged


def _place(data: bytes, rng: np.random.Generator) -> int:
    """A place in the data; half of the time near its start, where headers are."""
    length = max(len(data), 1)
    return int(rng.integers(min(length, 512) if rng.random() < 0.5 else length))


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: _place(data, rng)]


def _flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data or b"\0")
    for _ in range(int(rng.integers(1, 9))):
        out[_place(bytes(out), rng)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _overwrite_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    start = _place(data, rng)
    return data[:start] + rng.bytes(int(rng.integers(1, 17))) + data[start + int(rng.integers(1, 17)) :]


def _overwrite_word(data: bytes, rng: np.random.Generator) -> bytes:
    word = _WORDS[rng.integers(len(_WORDS))]
    start = _place(data, rng)
    return data[:start] + word + data[start + len(word) :]


def _remove(data: bytes, rng: np.random.Generator) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + int(rng.integers(1, 65)) :]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start = _place(data, rng)
    part = data[start : start + int(rng.integers(1, 65))]
    return data[:start] + part * int(rng.choice([2, 3, 100])) + data[start:]


def _swap(data: bytes, rng: np.random.Generator) -> bytes:
    first, second = sorted((_place(data, rng), _place(data, rng)))
    length = min(int(rng.integers(1, 65)), second - first)
    return (
        data[:first]
        + data[second : second + length]
        + data[first + length : second]
        + data[first : first + length]
        + data[second + length :]
    )


def _change_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Another number, or something else, in the place of one that is written in digits."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[: 1 << 16]))
    if not found:
        return _overwrite_word(data, rng)
    number = found[rng.integers(len(found))]
    return data[: number.start()] + _NUMBERS[rng.integers(len(_NUMBERS))] + data[number.end() :]


def _change_word(data: bytes, rng: np.random.Generator) -> bytes:
    """Another word of the same file, or none, in the place of one."""
    found = list(re.finditer(rb"[A-Za-z_:.]{3,}", data[: 1 << 16]))
    if not found:
        return _flip_bits(data, rng)
    word, other = (found[rng.integers(len(found))] for _ in range(2))
    return data[: word.start()] + (other[0] if rng.random() < 0.8 else b"") + data[word.end() :]


_MUTATIONS = (
    _truncate,
    _flip_bits,
    _overwrite_bytes,
    _overwrite_word,
    _remove,
    _repeat,
    _swap,
    _change_number,
    _change_word,
)
