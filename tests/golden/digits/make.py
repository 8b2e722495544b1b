"""Writes the handwritten digits that the binary embeds, from scikit-learn's copy of them.

    pip install scikit-learn
    python tests/golden/digits/make.py crates/weightspace-nn/src/data/digits

`digits.csv.gz` of scikit-learn has one line per digit: 64 pixels (8 rows of 8, values 0..16), then the
label. The result is a pair of gzip-compressed idx files in the same order, without time stamps: the
same bytes on every run with the same zlib.
"""

import gzip
import struct
import sys
from importlib.resources import files
from pathlib import Path


def write_idx(path: Path, dimensions: list[int], data: bytes) -> None:
    header = struct.pack(">HBB", 0, 0x08, len(dimensions))
    header += struct.pack(f">{len(dimensions)}I", *dimensions)
    path.write_bytes(gzip.compress(header + data, compresslevel=9, mtime=0))


def main() -> None:
    target = Path(sys.argv[1])
    table = gzip.decompress(files("sklearn.datasets.data").joinpath("digits.csv.gz").read_bytes())
    rows = [[int(float(field)) for field in line.split(",")] for line in table.decode().split()]
    assert len(rows) == 1797 and all(len(row) == 65 for row in rows)
    assert all(0 <= pixel <= 16 for row in rows for pixel in row[:64])
    pixels = bytes(pixel for row in rows for pixel in row[:64])
    write_idx(target / "digits-images-idx3-ubyte.gz", [len(rows), 8, 8], pixels)
    write_idx(target / "digits-labels-idx1-ubyte.gz", [len(rows)], bytes(row[64] for row in rows))


if __name__ == "__main__":
    main()
