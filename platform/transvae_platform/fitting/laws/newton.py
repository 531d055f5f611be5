"""Damped Newton for many replicates of one small problem at once.

Each replicate has its own weights on the same points, so all advance together in a few matrix products. A step solves
(H + mu I) s = -g; where that is no descent, the eigenvalues of H are replaced by their moduli. A step is kept only if
f does not rise. A replicate leaves the batch when its gradient vanishes or its steps do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from transvae_platform.fitting.laws.forms import FloatArray
from transvae_platform.fitting.laws.models import Model, Robust

LONGEST_STEP = 0.5  # max norm, in ln amplitude and exponent: beyond it a quadratic model of an exponential is worthless
SMALLEST_STEP = 1e-9
ITERATIONS = 200  # 29 at most in 4000 Chinchilla bootstraps (measured); far starts on flat ground need more
EASIER, HARDER = 0.2, 10.0  # the damping after a kept and after a refused step
CHUNK = 500  # replicates of 240 points: 0.34 s for 4000, 0.52 s in chunks of 125 (measured, one core)


@dataclass(frozen=True, eq=False)
class Minimum:
    """theta (B, P), f (B,), max |gradient| (B,) at it, and Newton iterations (B,)."""

    theta: FloatArray
    f: FloatArray
    gradient: FloatArray
    iterations: np.ndarray[tuple[int], np.dtype[np.int64]]


def gradient_tolerance(robust: Robust) -> float:
    """The gradient is a sum of residuals that delta bounds; 1e-10 at delta 1e-3 and above."""
    return 1e-7 * min(robust.delta, 1e-3)


def minimise(
    model: Model, start_BP: FloatArray, w_Bn: FloatArray, robust: Robust, threads: int | None = None
) -> Minimum:
    """Minima from start_BP under weights w_Bn, in chunks, on `threads` threads (default: the cores)."""
    pieces = [slice(i, i + CHUNK) for i in range(0, len(start_BP), CHUNK)]
    workers = min(threads or len(os.sched_getaffinity(0)), len(pieces))
    if workers <= 1:
        return _joined([_chunk(model, start_BP[p], w_Bn[p], robust) for p in pieces])
    with ThreadPoolExecutor(workers) as pool:
        return _joined(list(pool.map(lambda p: _chunk(model, start_BP[p], w_Bn[p], robust), pieces)))


def _joined(parts: Sequence[Minimum]) -> Minimum:
    return Minimum(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("theta", "f", "gradient", "iterations")))


def _chunk(model: Model, start: FloatArray, weights: FloatArray, robust: Robust) -> Minimum:
    theta, w = start.copy(), weights
    f, g, h = model.derivatives(theta, w, robust)
    damping = np.full(len(theta), 1e-3)
    tolerance = gradient_tolerance(robust)
    out = Minimum(theta.copy(), f.copy(), np.abs(g).max(1), np.zeros(len(theta), dtype=np.int64))
    rows = np.arange(len(theta))
    for iteration in range(1, ITERATIONS + 1):
        step = _step(g, h, damping)
        trial = theta + step
        new_f, new_g, new_h = model.derivatives(trial, w, robust)
        kept = new_f <= f
        damping *= np.where(kept, EASIER, HARDER)
        theta[kept], f[kept], g[kept], h[kept] = trial[kept], new_f[kept], new_g[kept], new_h[kept]
        steepest = np.abs(g).max(1)
        out.theta[rows], out.f[rows], out.gradient[rows], out.iterations[rows] = theta, f, steepest, iteration
        going = (steepest >= tolerance) & (np.abs(step).max(1) >= SMALLEST_STEP)
        if not going.all():
            if not going.any():
                break
            rows, theta, f, g, h, damping, w = (a[going] for a in (rows, theta, f, g, h, damping, w))
    return out


def _step(g: FloatArray, h: FloatArray, damping: FloatArray) -> FloatArray:
    """Damped Newton steps (B, P), no longer than LONGEST_STEP."""
    size = g.shape[1]
    scale = np.einsum("bpp->bp", np.abs(h)).max(1) + 1e-300
    shifted = h + (damping * scale + 1e-12 * scale)[:, None, None] * np.eye(size)
    with np.errstate(all="ignore"):
        try:
            step = -np.linalg.solve(shifted, g[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:
            step = np.full_like(g, np.nan)
        uphill = ~(np.einsum("bp,bp->b", step, g) < 0)
    if uphill.any():
        values, vectors = np.linalg.eigh(h[uphill])
        strength = np.maximum(np.abs(values), 1e-9 * np.abs(values).max(1, keepdims=True) + 1e-300)
        strength += (damping * scale)[uphill, None]
        step[uphill] = -np.einsum("bpq,bq,brq,br->bp", vectors, 1 / strength, vectors, g[uphill])
    longest = np.abs(step).max(1, keepdims=True)
    return step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))
