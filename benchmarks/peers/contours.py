"""What do heads that read along rays say of a boundary? This project's own contour head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit

from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.networks import prior_of
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.nets.edge_law import RAYS, Edge, median
from aistat_jax.nets.edges import edge_at
from aistat_jax.nets.head_training import HeadSettings
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.probability import probability_map, sample_masks
from benchmarks.peers import DRAWS, LEVEL, Band
from benchmarks.peers.cases import Case

POSTERIOR_DRAWS = 2 * DRAWS


@dataclass(frozen=True, eq=False)
class HeadClaim:
    """The posterior of a boundary model whose prior is the contour head's law, and its presence."""

    case: Case

    @cached_property
    def edge(self) -> Edge:
        target = self.case.target
        return edge_at(self.case.field, target.plane, target.centre, target.radius)

    @cached_property
    def posterior(self) -> Posterior:
        target = self.case.target
        model = boundary_model(
            target, prior=prior_of(self.edge), rays=RAYS, radius_max=4 * target.radius,
            presence=max(self.presence, 1e-6),
        )  # fmt: skip
        return fit(model, draws=POSTERIOR_DRAWS)

    def samples(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]:
        return sample_masks(self.posterior, count, seed=int(rng.integers(2**31)))

    @property
    def probability(self) -> Float[np.ndarray, "i j"]:
        return probability_map(self.posterior)

    @property
    def presence(self) -> float:
        return float(expit(self.edge.presence))

    @property
    def middle(self) -> Bool[np.ndarray, "i j"]:
        """Inside of the median contour."""
        return inside(self.posterior.chart, self.case, np.exp(median(self.edge)))

    @property
    def band(self) -> Band:
        band = simultaneous_band(self.posterior, LEVEL)
        radius = self.case.target.radius
        lower, upper = (
            inside(self.posterior.chart, self.case, np.asarray(edge) / radius)
            for edge in (band.lower, band.upper)
        )
        return Band(lower, upper)


def inside(
    chart: Any, case: Case, relative: Float[np.ndarray, "*draw ray"]
) -> Bool[np.ndarray, "*draw i j"]:
    """Pixels whose centres lie within stars of radii relative to the target's rough one."""
    radii = np.atleast_2d(relative) * case.target.radius
    found = chart.inside(radii, case.plane.points())
    return found.reshape(*np.shape(relative)[:-1], *case.log_odds.shape)


@dataclass(frozen=True)
class ShippedHead:
    name: str = "contour head"

    def at(self, case: Case) -> HeadClaim:
        return HeadClaim(case)


class ContourHeads:
    """The contour head that is shipped with the network, of its recipe's head part and budget."""

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        return [ShippedHead()]
