"""Writes test_32x32.mat, three images in the format of SVHN, as SciPy and MATLAB do.

    pip install numpy scipy
    python tests/golden/svhn/make.py tests/golden/svhn

Pixel (row, column) of channel c of image n is (7 row + 3 column + 50 c + 11 n) mod 256; the labels are
1, 10 (the digit 0) and 7.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.io import savemat

row, column, channel, image = np.ogrid[:32, :32, :3, :3]
pixels = ((7 * row + 3 * column + 50 * channel + 11 * image) % 256).astype(np.uint8)
labels = np.array([[1], [10], [7]], dtype=np.uint8)
savemat(Path(sys.argv[1]) / "test_32x32.mat", {"X": pixels, "y": labels}, do_compression=True)
