"""Given a boundary, which smooth levels are inside, and how likely is each voxel?

The conditionals of what `uneven.UnevenStep` integrates out, tempered as they are there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.boundary.levels import CountedVoxels


def core_share(
    position: Float[np.ndarray, " place"], at: float, over: float
) -> Float[np.ndarray, " place"]:
    """c: how far positions belong to the core, half of it at `at`."""
    from scipy.special import ndtr

    return ndtr((at - position) / over)


def core_fields(
    fields: Float[np.ndarray, "place field"], core: Float[np.ndarray, " place"]
) -> Float[np.ndarray, "place level"]:
    """What each level inside counts at places with these fields and shares of the core."""
    return np.concatenate([fields, core[:, None] * fields], axis=1)


def level_rows(
    share: Float[np.ndarray, " place"], fields: Float[np.ndarray, "place field"]
) -> Float[np.ndarray, "place level"]:
    """What each level counts at places that lie inside by a share; fields as of `core_fields`."""
    rim, core = np.split(fields, 2, axis=1)
    return np.column_stack([share[:, None] * rim, core, 1 - share])


class LevelPrior(NamedTuple):
    """Of levels: mean (level,), precision (level, level) in units of the noise's, and the noise."""

    mean: Float[np.ndarray, " level"]
    precision: Float[np.ndarray, "level level"]
    shape: float
    rate: float

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Levels, and the sd of the noise after them."""
        sd = np.sqrt(self.rate / rng.gamma(self.shape))
        step = rng.standard_normal(len(self.mean))
        return np.append(
            self.mean + sd * np.linalg.solve(np.linalg.cholesky(self.precision).T, step), sd
        )

    def given(
        self,
        rows: Float[np.ndarray, "place level"],
        y: Float[np.ndarray, " place"],
        weight: Float[np.ndarray, " place"],
        count: float,
    ) -> LevelPrior:
        """What a regression on rows that are worth so many voxels makes of it."""
        weighted = weight[:, None] * rows
        precision = rows.T @ weighted + self.precision
        before = self.precision @ self.mean
        right = weighted.T @ y + before
        mean = np.linalg.solve(precision, right)
        left = weight @ y**2 + self.mean @ before - right @ mean
        return LevelPrior(mean, precision, self.shape + 0.5 * count, float(self.rate + 0.5 * left))


class UnevenLevels:
    """y_i ~ N(level at i, sigma^2 / v_i); parameters (draw, level + 1), the last of them sigma.

    `fields` (site, field) are those of direction, `core` where it ends, and over how much.
    """

    def __init__(
        self,
        prior: LevelPrior,
        eta: float,
        fields: Float[np.ndarray, "site field"],
        core: tuple[float, float],
        seen: CountedVoxels,
    ) -> None:
        from scipy.sparse import csr_array

        shared, voxels = seen.shared, len(seen.counted)
        self.prior, self.eta, self.seen = prior, eta, seen
        self.y, self.v = (each[shared.voxel] for each in (seen.counted, seen.precisions))
        self.weight = eta * shared.share * self.v
        position = np.zeros(voxels)
        position[shared.voxel] = shared.position
        met = csr_array((shared.share, (shared.voxel, shared.site)), (voxels, len(fields)))
        inner = core_share(position, *core)
        self.of_pair = core_fields(fields[shared.site], inner[shared.voxel])
        self.of_voxel = core_fields(met @ fields, inner)

    def parameters(self, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.array([self.given(share).drawn(rng) for share in inside])

    def given(self, share: Float[np.ndarray, " pair"]) -> LevelPrior:
        """The law of the levels if pairs of voxel and site lie inside by these shares."""
        rows, count = level_rows(share, self.of_pair), self.eta * len(self.seen.counted)
        return self.prior.given(rows, self.y, self.weight, count)

    def expected(self, inside: Float[np.ndarray, " voxel"]) -> Float[np.ndarray, " voxel"]:
        rows, weight = level_rows(inside, self.of_voxel), self.eta * self.seen.precisions
        return rows @ self.prior.given(rows, self.seen.counted, weight, 0.0).mean

    def log_density(self, inside: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        sd = parameters[:, -1:]
        error = (self.y - self._at(inside, self.of_pair, parameters)) / sd
        return 0.5 * (np.log(self.v) - np.log(2 * np.pi) - self.v * error**2) - np.log(sd)

    def predict(
        self, inside: np.ndarray, parameters: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        noise = rng.standard_normal(inside.shape) / np.sqrt(self.seen.precisions)
        return self.mean(inside, parameters) + parameters[:, -1:] * noise

    def mean(self, inside: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """The level at every voxel, (draw, voxel)."""
        return self._at(inside, self.of_voxel, parameters)

    def _at(self, inside: np.ndarray, fields: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        (rim, core), (of_rim, of_core) = (
            np.split(part, 2, axis=1) for part in (parameters[:, :-2], fields)
        )
        outside = (1 - inside) * parameters[:, -2:-1]
        return inside * (rim @ of_rim.T) + core @ of_core.T + outside
