"""The numbers in tests.rs, from the libraries themselves.

    pip install numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93
    python expected.py
"""

import zlib

import cv2
import numpy as np
from PIL import Image


def picture(width, height):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((x * 7 + y * 13 + c * 50 + x * y * (c + 1)) % 256).astype(np.uint8)


def crc(array):
    return f"0x{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"


source = picture(74, 46)
filters = {
    "PillowBilinear": Image.Resampling.BILINEAR,
    "PillowBicubic": Image.Resampling.BICUBIC,
    "PillowLanczos": Image.Resampling.LANCZOS,
}
for size in [(16, 9), (37, 23), (74, 20), (31, 46), (200, 150), (1, 1)]:
    for name, resample in filters.items():
        print(f"(Resampler::{name}, {size}, {crc(np.asarray(Image.fromarray(source).resize(size, resample)))}),")
    print(f"(Resampler::OpencvLinear, {size}, {crc(cv2.resize(source, size))}),")

corners = np.array([[10, 5], [60, 9], [58, 30], [8, 26]], dtype=np.float32)
upright = np.array([[0, 0], [50, 0], [50, 21], [0, 21]], dtype=np.float32)
# A smooth picture that is easily made again: a slope.
slope = np.stack([np.add.outer(np.arange(46) * 2, np.arange(74) * 2)] * 3, axis=2).astype(np.uint8)
cut = cv2.warpPerspective(
    slope,
    cv2.getPerspectiveTransform(corners, upright),
    (50, 21),
    borderMode=cv2.BORDER_REPLICATE,
    flags=cv2.INTER_CUBIC,
)
print("cut_out", [[int(cut[y, x, 0]) for x in (0, 1, 25, 48, 49)] for y in (0, 10, 20)])
