"""Makes metrics.json: the Frechet distance with scipy's matrix root of the covariances' product, and SSIM with
scipy's correlation. Needs numpy and scipy.

    python3 metrics.py > metrics.json
"""

import json

import numpy as np
from scipy.linalg import sqrtm
from scipy.signal import correlate2d


def frechet(a, b):
    difference = a.mean(0) - b.mean(0)
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(difference @ difference + np.trace(sa + sb - 2 * sqrtm(sa @ sb).real))


def ssim(a, b, span):
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    mean = lambda image: correlate2d(image, window, mode="valid")
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    planes = []
    for p, q in zip(a, b):
        mp, mq = mean(p), mean(q)
        vp, vq, cov = mean(p * p) - mp**2, mean(q * q) - mq**2, mean(p * q) - mp * mq
        planes.append(((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))).mean())
    return float(np.mean(planes))


def rounded(values):
    """To few digits, so that the file is short and f32 holds the numbers as well as f64."""
    return np.round(values, 3)


rng = np.random.default_rng(20)
frechets = []
for n, m, f in [(12, 15, 5), (6, 9, 7)]:
    mix = rng.normal(size=(f, f))
    a = rounded(rng.normal(size=(n, f)) @ mix)
    b = rounded(rng.normal(size=(m, f)) * 0.7 + 0.4)
    frechets.append({"a": a.tolist(), "b": b.tolist(), "distance": frechet(a, b)})
image = rounded(rng.uniform(-1, 1, size=(2, 12, 14)))
other = rounded(np.clip(0.8 * image + 0.2 * rng.normal(size=image.shape), -1, 1))
pair = {"a": image.tolist(), "b": other.tolist(), "ssim": ssim(image, other, 2.0)}
print(json.dumps({"frechet": frechets, "ssim": pair}))
