"""Which data would a boundary give, if a model were right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.boundary.evidence import BACKGROUND, Evidence
from aistat_jax.boundary.families import (
    AnchorTerm,
    BlurredStep,
    ContourTerm,
    HardStep,
    StepPrior,
    Term,
)
from aistat_jax.boundary.intensity import Intensity
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.nested import NestedStep, nested_prior
from aistat_jax.boundary.observed import inside_shares, pieces_with_terms
from aistat_jax.boundary.opinions import Anchors, Raters
from aistat_jax.boundary.samples import poisson_precisions
from aistat_jax.boundary.uneven import UnevenStep
from aistat_jax.data.textures import correlated_noise
from aistat_jax.space.chart import LINKS, Chart
from aistat_jax.space.image import Image

Levels = Sequence[float]
"""(outside, inside, sd), of a ring (outside, wall, core, sd), or the two probabilities or rates of
a Bernoulli or Poisson step."""


def simulate(
    model: BoundaryModel,
    radii: Float[np.ndarray, " ray"],
    *,
    levels: Levels | Mapping[str, Levels] | None = None,
    correlation_px: float = 0.0,
    seed: int = 0,
) -> Evidence:
    """The evidence of a model, with data drawn anew from its own likelihood given a boundary.

    Images get new values in the model's slice, on their own grids, with the blur, the bent edges
    and the noise that their terms reckon with; scattered points get new values, raters draw anew
    and clicks are made anew. With boundaries from `prior_draws` these are the data of
    simulation-based calibration: fit `boundary_model(target, simulate(model, radii, seed=i), ...)`.

    `levels` (see `Levels`) are in the image's units, for all channels or by name ("points" for
    scattered ones); without them they are drawn from the `prior` (or `hyper`) given to
    `intensity`. `correlation_px` makes the noise alike among neighbours, exp(-(d / px)^2), which
    no term knows of but by its temper.

    Shapes: radii (ray,) on the model's rays. Raises InputError for evidence of log-odds or a term
    of one's own, which say nothing of how their data come about, for levels that are neither
    stated nor have a prior, and for a model that was not made by `boundary_model`.
    """
    radii = np.asarray(radii, dtype=float)
    rays = model.chart.sites
    if radii.shape != (rays,) or not (np.isfinite(radii) & (radii > model.chart.reach[0])).all():
        raise InputError(
            f"a boundary of this model is {rays} values above {model.chart.reach[0]:g}, "
            f"got shape {radii.shape}"
        )
    if not model.evidence.pieces:
        raise InputError("this model keeps no evidence to draw anew; make it by boundary_model")
    rng = np.random.default_rng(seed)
    pieces = []
    for piece, terms in pieces_with_terms(model):
        if isinstance(piece, Intensity):
            pieces.append(_intensities(rng, model, piece, terms, radii, levels, correlation_px))
        elif isinstance(piece, Raters):
            pieces.append(_raters(rng, model.chart, piece, terms[0], radii))
        elif isinstance(piece, Anchors):
            pieces.append(_anchors(rng, model.chart, piece, terms[0], radii))
        else:
            raise InputError(
                f"evidence of kind {type(piece).__name__} does not say how its data come about; "
                "simulate the rest, and add to it what you draw yourself"
            )
    return Evidence(tuple(pieces))


def simulate_image(
    model: BoundaryModel,
    radii: Float[np.ndarray, " ray"],
    *,
    levels: Levels | Mapping[str, Levels] | None = None,
    correlation_px: float = 0.0,
    seed: int = 0,
) -> Image:
    """The image in what `simulate` draws, with channels that the model does not read as they are.

    Raises InputError as `simulate` does, and for a model without an image.
    """
    drawn = simulate(model, radii, levels=levels, correlation_px=correlation_px, seed=seed)
    for piece in drawn.pieces:
        if isinstance(piece, Intensity) and piece.image is not None:
            return piece.image
    raise InputError("this model reads no image; use simulate for its other evidence")


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


# ------------------------------------------------------------------------------- by piece


def _intensities(
    rng: np.random.Generator,
    model: BoundaryModel,
    piece: Intensity,
    terms: tuple[Term, ...],
    radii: np.ndarray,
    levels: Any,
    correlation_px: float,
) -> Intensity:
    def values(name: str, term: Term, points: np.ndarray, width: float, noise: Any) -> np.ndarray:
        assert isinstance(term, BlurredStep | HardStep | NestedStep | UnevenStep)
        chart = model.chart
        flat = points.reshape(-1, chart.dims)
        shared = chart.share(flat, width)
        each = inside_shares(term, shared, radii[None], chart.dims)[0]
        layers = LINKS[chart.link].layers
        layer = shared.site * layers // chart.sites
        insides = np.bincount(
            layer * len(flat) + shared.voxel, shared.share * each, layers * len(flat)
        ).reshape(layers, *points.shape[:-1])
        inside = insides[0]
        wanted = levels.get(name) if isinstance(levels, Mapping) else levels
        if isinstance(term, NestedStep):
            return _nested(rng, piece, insides, wanted, noise)
        if isinstance(term, HardStep):
            return _hard(rng, piece, inside > 0.5, wanted, noise)
        return _blurred(rng, piece, inside, wanted, noise)

    if piece.image is None:
        assert piece.points is not None
        drawn = values("points", terms[0], piece.points, 0.0, None)
        return replace(piece, values=drawn)
    image = piece.image
    around = np.inf if model.chart.dims == 2 else BACKGROUND[3] * model.chart.reach[1]
    for name, term in zip(piece.channels, terms, strict=True):
        channel = image[name]
        part = model.target.part_of(channel, around)
        width = float(np.prod(part.sides) ** (1 / model.chart.dims))
        noise = correlated_noise(rng, part.values.shape, correlation_px)
        changed = channel.values.copy()
        drawn = values(name, term, part.points(), width, noise)
        changed[channel.place_of(part)] = drawn
        channels = {**image.channels, name: replace(channel, values=changed)}
        image = replace(image, channels=channels)
    return replace(piece, image=image)


def _blurred(
    rng: np.random.Generator, piece: Intensity, inside: np.ndarray, levels: Any, noise: Any
) -> np.ndarray:
    if levels is None and piece.prior is None:
        raise InputError(
            "the levels have no prior in the image's units; state levels=(outside, inside, sd), "
            "or give intensity a prior"
        )
    if noise is None:
        noise = rng.standard_normal(inside.shape)
    if levels is not None:
        outside, within, sd = _numbers(levels, 3)
        mean = outside + (within - outside) * inside
        if piece.noise == "poisson":
            precisions = poisson_precisions(mean)
            noise = noise / np.sqrt(precisions / precisions.mean())
        return mean + sd * noise
    assert piece.prior is not None
    if piece.noise == "poisson":
        raise InputError("noise that grows with uptake needs stated levels=(outside, inside, sd)")
    return blurred_values(rng, inside, piece.prior, noise)


def _nested(
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


def _hard(
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


def _raters(
    rng: np.random.Generator, chart: Chart, piece: Raters, term: Term, radii: np.ndarray
) -> Raters:
    assert isinstance(term, ContourTerm)
    spread = np.linalg.inv(np.asarray(term.whiten))
    drawn = radii + rng.standard_normal((len(piece.curves), len(radii))) @ spread.T
    floor = 0.05 * radii
    return replace(piece, curves=tuple(chart.surface(np.maximum(r, floor)) for r in drawn))


def _anchors(
    rng: np.random.Generator, chart: Chart, piece: Anchors, term: Term, radii: np.ndarray
) -> Anchors:
    assert isinstance(term, AnchorTerm)
    clicks = len(piece.points)
    edge = (np.asarray(term.weights) @ radii)[:clicks]
    shown = chart.position(piece.points)
    error = piece.sd * rng.standard_normal(clicks)
    place = np.where(piece.side == 0, np.maximum(edge + error, 0.0), shown)
    side = np.where(piece.side == 0, 0.0, np.where(shown <= edge + error, 1.0, -1.0))
    moved = (place - shown)[:, None] * chart.outward(piece.points)
    return replace(piece, points=piece.points + moved, side=side)
