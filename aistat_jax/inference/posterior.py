"""What does every way of fitting return? One Posterior record, with its diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.space.curve import MultiPolygon
from aistat_jax.space.grid import Plane
from aistat_jax.space.outlines import region_in


class Finding(NamedTuple):
    """What was found to speak against a posterior: the best grade it leaves, and a sentence.

    `kind` is what was looked at: the "image", the "target", or "sources" of evidence beside each
    other.
    """

    cap: str
    text: str
    kind: str = "image"


@record
class Diagnostics:
    """Whether the numbers can be trusted, and if not, why, in sentences.

    khat is the Pareto shape of the importance weights (None where there are none),
    ess_min the smallest effective sample size over monitored quantities. `findings` are about the
    model rather than the computation: what the image, or other evidence, has against it. `voxel`
    is the side of the finest pixels that were evidence (None: no image was).
    """

    converged: bool
    ess_min: float
    khat: float | None = None
    rhat_max: float | None = None
    divergences: int | None = None
    reasons: tuple[str, ...] = static(default=())
    findings: tuple[Finding, ...] = static(default=())
    voxel: float | None = None


@record
class Posterior:
    """Draws of one boundary, whichever way they were computed.

    Shapes: radii (chain, draw, ray) in the chart's unit; samples[site] (chain, draw, ...).
    Draws carry equal weight. presence is the probability that there is anything to contour at
    all; the draws are boundaries given that there is. model is what was fitted, for those who
    want to add evidence and fit again; a posterior read from a file has none.

    log_evidence is the log marginal likelihood of all the data under the model, with its standard
    error: by Laplace (where khat is at most 0.7) and by SMC, None otherwise. Only models of the
    same data compare (docs/mathematics.md, Log evidence). sample_stats[name] (chain, draw) is what
    a sampler noted at each draw, by ArviZ's names. Timings and diagnostics are values, so that a
    function under `jax.jit` is traced once for many fits of one kind, seed and target's name.
    """

    chart: Any  # a Chart; what shows slices asks a star for its plane
    radii: Float[np.ndarray, "chain draw ray"]
    samples: dict[str, np.ndarray]
    diagnostics: Diagnostics
    method: str = static()
    seed: int = static()
    target_id: str = static(default="target")
    seconds: dict[str, float] = field(default_factory=dict)
    presence: float = 1.0
    model: BoundaryModel | None = None
    log_evidence: float | None = None
    log_evidence_se: float | None = None
    sample_stats: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        return self.chart.unit

    @property
    def draws(self) -> Float[np.ndarray, "draw ray"]:
        """Radii of all chains, one row a draw."""
        return self.radii.reshape(-1, self.radii.shape[-1])

    @property
    def estimate(self) -> Float[np.ndarray, " ray"]:
        """Posterior mean radius along each ray."""
        return self.draws.mean(axis=0)

    def region(self, plane: Plane | None = None) -> MultiPolygon:
        """The inside of the estimate in a plane, as shapely polygons; see `to_shapely`."""
        return region_in(self.chart, self.estimate, plane)

    def curves(self, count: int) -> list[Any]:
        """`count` posterior contours, spread evenly over the draws: curves, or meshes in space."""
        if not 1 <= count <= len(self.draws):
            raise InputError(
                f"asked for {count} posterior contours of a posterior with {len(self.draws)} draws"
            )
        chosen = np.linspace(0, len(self.draws) - 1, count).round().astype(int)
        return [self.chart.surface(self.draws[i]) for i in chosen]

    def to_arviz(self, groups: Sequence[str] | None = None, seed: int = 0) -> Any:
        """As ArviZ reads it, with dims chain, draw, ray and basis; see `to_arviz`."""
        from aistat_jax.inference.arviz_groups import to_arviz

        return to_arviz(self, groups, seed)
