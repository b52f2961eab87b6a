"""Mutated data files raise nothing but the project's own errors, each one line, and take no time or memory.

``MNISTBENCH_FUZZ=600 pytest -n0 -s tests/datasets/test_fuzzing.py`` goes on for 600 seconds, and prints how many files
were tried; ``MNISTBENCH_FUZZ_SEED`` chooses other mutations. A file that fails is kept, and its path is in the message.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from mnistbench.datasets import load_data, read_file
from mnistbench.exceptions import MnistbenchError
from tests.support import kinds

SECONDS = float(os.environ.get("MNISTBENCH_FUZZ", "3"))
SEED = int(os.environ.get("MNISTBENCH_FUZZ_SEED", "0"))

# Pieces that mean something to a reader of one of the formats.
PIECES = [
    *(b",", b";", b"\t", b"|", b" ", b'"', b"'", b"\n", b"\r", b"\r\n", b"\0", b".", b"-", b"+", b"_", b"e", b"e999"),
    *(b"label", b"class", b"id", b"pixel0", b"1x1", b"nan", b"inf", b"0", b"255", b"256", b"65536", b"9" * 40),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xc3\xa9", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"PK\x03\x04", b"PK\x05\x06"),
    *(b"\0\0\x08\x01", b"\0\0\x08\x03", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"<html>", b"x_train", b"y_train"),
    *(b"\x93NUMPY", b"'descr'", b"|O", b"<f8", b"(60, 784)", b"(60,)", b"True", b"(", b")", b"{", b"}", b"[", b"]"),
]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return the content with a few random changes, near its beginning or end more often than elsewhere."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        size = len(data)
        reach = rng.choice((min(size, 64), min(size, 1_000), size))
        place = rng.randrange(reach + 1)
        place = size - place if rng.random() < 0.3 else place
        change = rng.randrange(7)
        if change == 0 and size:
            data[min(place, size - 1)] = rng.randrange(256)
        elif change == 1:
            data[place:place] = rng.choice(PIECES)
        elif change == 2:
            piece = rng.choice(PIECES)
            data[place : place + len(piece)] = piece
        elif change == 3:
            del data[place : place + rng.choice((1, 2, 4, 100))]
        elif change == 4:
            del data[place:]
        elif change == 5:
            other = rng.randrange(size + 1)
            data[place:place] = data[other : other + rng.choice((1, 4, 50, 2_000))]
        elif size:
            data[min(place, size - 1)] ^= 1 << rng.randrange(8)
    return bytes(data)


def unpacked_and_mutated(content: bytes, rng: random.Random) -> bytes:
    """Mutate what is within gzip or a zip archive, where checksums would otherwise hide it."""
    try:
        if content.startswith(b"\x1f\x8b"):
            return gzip.compress(mutated(gzip.decompress(content), rng), 1)
        if content.startswith(b"PK\x03\x04"):
            written = BytesIO()
            with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as new:
                chosen = rng.choice(old.namelist())
                for name in old.namelist():
                    inner = old.read(name)
                    new.writestr(name, mutated(inner, rng) if name == chosen else inner)
            return written.getvalue()
    except (OSError, EOFError, zipfile.BadZipFile):  # a kind that is damaged already
        pass
    return mutated(content, rng)


def attempt(path: Path, read: Callable[[Path], object], seconds: float = 20) -> str:
    """Read mutated data; return what came of it, or fail with what must not."""
    start = time.perf_counter()
    try:
        read(path)
        outcome = "read"
    except MnistbenchError as error:
        message = str(error)
        outcome = type(error).__name__
        if not message.isprintable() or len(message) > 1_500:
            pytest.fail(f"{path}: no short line: {message[:2_000]!r}")
    except Exception as error:
        pytest.fail(f"{path}: {type(error).__name__}: {error}")
    if time.perf_counter() - start > seconds:
        pytest.fail(f"{path}: took {time.perf_counter() - start:.1f} s")
    return outcome


@pytest.mark.slow
def test_mutated_data_raise_nothing_else(tmp_path: Path) -> None:
    sources = []
    for number, write in enumerate([*kinds.ACCEPTED.values(), *kinds.REFUSED.values()]):
        (tmp_path / str(number)).mkdir()
        source = write(tmp_path / str(number))
        files = [path for path in sorted(source.rglob("*")) if path.is_file()] if source.is_dir() else [source]
        sources.append((source, files))
    rng = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or not {"read", "DataError"} <= {*outcomes}:
        source, files = rng.choice(sources)
        file = rng.choice(files)
        content = file.read_bytes()
        file.write_bytes((mutated if rng.random() < 0.3 else unpacked_and_mutated)(content, rng))
        size, (rank, ranks) = rng.choice((0, 7)), rng.choice(((0, 1), (0, 3), (2, 3)))
        outcomes[attempt(source, partial(load_data, dev_size=size, rank=rank, ranks=ranks))] += 1
        if source.is_file() and rng.random() < 0.3:
            outcomes[f"without labels: {attempt(source, read_file)}"] += 1
        file.write_bytes(content)
    print(f"{outcomes.total()} files: {dict(outcomes)}")
    shutil.rmtree(tmp_path)
