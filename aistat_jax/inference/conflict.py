"""Do the sources of evidence about one boundary agree?

Two images, or an image and a term of one's own, add their evidence, and where they contradict each
other the sum is a sharp boundary between them that neither believes in. So each source is fitted
alone, by the compiled program of the whole model with the other sources' weights at 0, and two are
said to disagree where their boundaries are further apart than DEVIATIONS of both their standard
deviations together (about the half-widths of their simultaneous bands), along more than SHARE of
the rays, or where their areas (of surfaces: volumes) are. Clicks are no source: they are made to
overrule.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from aistat_jax._record import replace
from aistat_jax.boundary.answers import names_of, pieces_read
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.posterior import Finding, Posterior
from aistat_jax.inference.predictive import SIZES

DEVIATIONS = 3.0
SHARE = 0.05
# With fewer effective draws a source alone says nothing that could be compared.
FEWEST = 30.0


def sources_of(model: BoundaryModel) -> list[tuple[str, int]]:
    """The names of a model's sources, and which of its terms each is."""
    names = [name for piece, read in pieces_read(model) for name in names_of(piece, read)]
    return [(name, at) for at, name in enumerate(names) if name]


def conflicts(
    model: BoundaryModel, alone: Callable[[BoundaryModel], Posterior]
) -> tuple[Finding, ...]:
    """A finding for every two sources of a model that cannot both be right.

    `alone` fits a model in which one source counts; nothing is fitted where there is only one.
    """
    sources = sources_of(model)
    if len(sources) < 2:
        return ()
    weights = np.ones(len(model.data.terms))
    weights[[at for _, at in sources]] = 0.0
    said = []
    for name, at in sources:
        data = replace(model.data, weights=np.where(np.arange(len(weights)) == at, 1.0, weights))
        posterior = alone(replace(model, data=data))
        if posterior.diagnostics.ess_min >= FEWEST:
            said.append((name, posterior))
    found = (_disagreement(*first, *second) for first, second in combinations(said, 2))
    return tuple(finding for finding in found if finding is not None)


def _disagreement(name: str, first: Posterior, other: str, second: Posterior) -> Finding | None:
    chart, pair = first.chart, (first.draws, second.draws)
    apart = float(_beyond(*pair).mean())
    areas = [chart.content(radii) for radii in pair]
    if apart <= SHARE and not _beyond(*areas):
        return None
    word, unit = SIZES[chart.dims], f"{chart.unit}{'²³'[chart.dims - 2]}"
    one, two = (f"{float(np.median(area)):,.0f} {unit}" for area in areas)
    where = f", and lie apart along {apart:.0%} of the boundary" if apart > SHARE else ""
    return Finding(
        "red",
        f"{name} and {other} contradict each other: alone they say {word} of {one} and one of "
        f"{two}{where}, further apart than both can be wrong",
        "sources",
    )


def _beyond(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where the means of two sets of draws are further apart than both their deviations allow."""
    gap = np.abs(first.mean(axis=0) - second.mean(axis=0))
    return np.asarray(gap > DEVIATIONS * (first.std(axis=0) + second.std(axis=0)))
