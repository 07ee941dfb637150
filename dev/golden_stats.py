#!/usr/bin/env python3
"""golden_stats.py -- the statistics of eval.c by scipy and numpy: prints the numbers in tests/test_eval.c.

    python3 dev/golden_stats.py

Needs scipy and numpy. The bootstrap is numpy's percentile of the means of the very resamples that eval.c draws:
its generator (splitmix64) and its way to a number below n are written a second time here.
"""
import numpy
import scipy
from scipy.stats import binomtest, sem

MASK = 2**64 - 1


def drawn(seed, below, count):
    state, top, out = seed, MASK - MASK % below, []
    while len(out) < count:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        if z < top:
            out.append(z % below)
    return out


def interval(x, resamples=10000, seed=1234):
    """Order statistics, not numbers between two of them: the smallest and the largest inside the middle 95 %."""
    means = numpy.array(x)[numpy.array(drawn(seed, len(x), resamples * len(x))).reshape(resamples, -1)].mean(axis=1)
    return numpy.percentile(means, 2.5, method="higher"), numpy.percentile(means, 97.5, method="lower")


print("scipy", scipy.__version__, "numpy", numpy.__version__)
for right, n in (2507, 10042), (2486, 10042), (588, 2376), (572, 2376):
    print("sem", right, n, repr(float(sem([1.0] * right + [0.0] * (n - right)))))
print("sem", repr(float(sem([0.25, 0.5, 0.125, 0.875]))))
for b, c in ((0, 0), (1, 0), (3, 9), (10, 10), (0, 6), (5, 0), (25, 44), (400, 470), (3000, 2800), (7000, 7300), (0, 24)):
    print("binomtest", b, c, repr(float(binomtest(b, b + c).pvalue)) if b + c else 1)
for name, x in (("x", [1.0] * 30 + [0.0] * 120 + [-1.0] * 18), ("y", [(i * 37 % 101) / 101 - 0.45 for i in range(60)]),
                ("z", [(i + 1) ** 0.5 - 3 for i in range(20)]), ("two", [0.0, 1.0])):
    print("bootstrap", name, *(repr(float(v)) for v in interval(x)))
