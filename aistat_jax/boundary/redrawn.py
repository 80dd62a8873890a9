"""Which intensities would a boundary give, if a piece of evidence were right?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.boundary.answers import Tabulated, Truth
from aistat_jax.boundary.evidence import BACKGROUND
from aistat_jax.boundary.families import StepPrior
from aistat_jax.boundary.levels import CountedVoxels
from aistat_jax.boundary.nested import nested_prior
from aistat_jax.boundary.observed import inside_shares
from aistat_jax.boundary.samples import poisson_precisions
from aistat_jax.data.textures import correlated_noise
from aistat_jax.space.chart import LINKS, Shares

if TYPE_CHECKING:
    from aistat_jax.boundary.intensity import Intensity
else:
    Intensity = Any


def intensities(
    rng: np.random.Generator, piece: Intensity, read: Tabulated, truth: Truth
) -> Intensity:
    """The piece with new values in its image, or at its points."""
    chart = read.chart

    def values(name: str, term: Any, points: np.ndarray, width: float, noise: Any) -> np.ndarray:
        flat = points.reshape(-1, chart.dims)
        shared = chart.share(flat, width)
        each = inside_shares(term, shared, truth.values[None], chart.dims)[0]
        layers = LINKS[chart.link].layers
        layer = shared.site * layers // chart.sites
        insides = np.bincount(
            layer * len(flat) + shared.voxel, shared.share * each, layers * len(flat)
        ).reshape(layers, *points.shape[:-1])
        wanted = truth.levels_of(name)
        if layers > 1:
            return _ring(rng, piece, insides, wanted, noise)
        if piece.levels == "uneven" and wanted is None:
            return _uneven(rng, piece, term, shared, insides[0], noise)
        if piece.family == "blurred":
            return _step(rng, piece, insides[0], wanted, noise)
        return _sides(rng, piece, insides[0] > 0.5, wanted, noise)

    if piece.image is None:
        assert piece.points is not None
        return replace(piece, values=values("points", read.terms[0], piece.points, 0.0, None))
    image = piece.image
    around = np.inf if chart.dims == 2 else BACKGROUND[3] * chart.reach[1]
    for name, term in zip(piece.channels, read.terms, strict=True):
        channel = image[name]
        part = read.target.part_of(channel, around)
        width = float(np.prod(part.sides) ** (1 / chart.dims))
        noise = correlated_noise(rng, part.values.shape, truth.correlation_px)
        changed = channel.values.copy()
        changed[channel.place_of(part)] = values(name, term, part.points(), width, noise)
        channels = {**image.channels, name: replace(channel, values=changed)}
        image = replace(image, channels=channels)
    return replace(piece, image=image)


def blurred_values(
    rng: np.random.Generator,
    inside: Float[np.ndarray, "*voxels"],
    prior: StepPrior,
    noise: np.ndarray | None = None,
) -> Float[np.ndarray, "*voxels"]:
    """mu + delta h + sigma noise, with (mu, delta, sigma) drawn from their prior."""
    sd = np.sqrt(float(prior.rate) / rng.gamma(float(prior.shape)))
    step = rng.standard_normal(2)
    level, delta = np.asarray(prior.mean) + sd / np.sqrt(np.asarray(prior.precision)) * step
    noise = rng.standard_normal(inside.shape) if noise is None else noise
    return level + delta * inside + sd * noise


def _uneven(
    rng: np.random.Generator,
    piece: Intensity,
    term: Any,
    shared: Shares,
    inside: np.ndarray,
    noise: Any,
) -> np.ndarray:
    """Levels from their prior, as strong as the term found them: stated ones would be even."""
    _check_prior(piece)
    share = inside.reshape(1, -1)
    law = term.levels(CountedVoxels(np.zeros(share.size), np.ones(share.size), shared))
    drawn = law.prior.drawn(rng)
    noise = rng.standard_normal(inside.shape) if noise is None else noise
    return law.mean(share, drawn[None]).reshape(inside.shape) + drawn[-1] * noise


def _check_prior(piece: Intensity) -> None:
    if piece.prior is None:
        raise InputError(
            "the levels have no prior in the image's units; state levels=(outside, inside, sd), "
            "or give intensity a prior"
        )
    if piece.noise == "poisson":
        raise InputError("noise that grows with uptake needs stated levels=(outside, inside, sd)")


def _step(
    rng: np.random.Generator, piece: Intensity, inside: np.ndarray, levels: Any, noise: Any
) -> np.ndarray:
    if noise is None:
        noise = rng.standard_normal(inside.shape)
    if levels is not None:
        outside, within, sd = _numbers(levels, 3)
        mean = outside + (within - outside) * inside
        if piece.noise == "poisson":
            precisions = poisson_precisions(mean)
            noise = noise / np.sqrt(precisions / precisions.mean())
        return mean + sd * noise
    _check_prior(piece)
    assert piece.prior is not None
    return blurred_values(rng, inside, piece.prior, noise)


def _ring(
    rng: np.random.Generator, piece: Intensity, insides: np.ndarray, levels: Any, noise: Any
) -> np.ndarray:
    """mu + delta_1 h outer + delta_2 h inner + sigma noise. Shapes: insides (layer, *voxels)."""
    if piece.noise == "poisson" or (levels is None and piece.prior is None):
        raise InputError(
            "a ring is simulated with constant noise, of levels=(outside, wall, core, sd) or of "
            "those that the prior of intensity draws"
        )
    if levels is not None:
        outside, wall, core, sd = _numbers(levels, 4)
        level, steps = outside, np.array([wall - outside, core - wall])
    else:
        assert piece.prior is not None
        mean, precision = nested_prior(piece.prior)
        sd = np.sqrt(float(piece.prior.rate) / rng.gamma(float(piece.prior.shape)))
        level, *steps = mean + sd / np.sqrt(precision) * rng.standard_normal(3)
    noise = rng.standard_normal(insides.shape[1:]) if noise is None else noise
    return level + np.tensordot(steps, insides, axes=1) + sd * noise


def _sides(
    rng: np.random.Generator, piece: Intensity, inside: np.ndarray, levels: Any, noise: Any
) -> np.ndarray:
    if levels is None and piece.hyper is None:
        raise InputError(
            "the levels have no prior in the image's units; state levels=(outside, inside, sd), "
            "two probabilities or two rates, or give intensity its hyper"
        )
    if piece.family == "gaussian":
        if levels is not None:
            *means, sd = _numbers(levels, 3)
            sds = np.full(2, sd)
        else:
            mean, precision, shape, rate = np.asarray(piece.hyper)
            sds = np.sqrt(rate / rng.gamma(shape, size=2))
            means = mean + sds / np.sqrt(precision) * rng.standard_normal(2)
        noise = rng.standard_normal(inside.shape) if noise is None else noise
        return np.asarray(means)[inside.astype(int)] + sds[inside.astype(int)] * noise
    if levels is not None:
        pair = np.asarray(_numbers(levels, 2))
    else:
        a, b = np.asarray(piece.hyper)[:2]
        pair = rng.beta(a, b, 2) if piece.family == "bernoulli" else rng.gamma(a, 1 / b, 2)
    each = pair[inside.astype(int)]
    if piece.family == "bernoulli":
        return (rng.uniform(size=inside.shape) < each).astype(float)
    return rng.poisson(each).astype(float)


def _numbers(levels: Any, count: int) -> list[float]:
    numbers = [float(v) for v in levels]
    if len(numbers) != count or not np.isfinite(numbers).all() or (count > 2 and numbers[-1] < 0):
        wanted = {2: "(outside, inside)", 3: "(outside, inside, sd)"}.get(
            count, "(outside, wall, core, sd)"
        )
        raise InputError(f"levels must be {wanted}, finite and the sd not negative, got {levels}")
    return numbers
