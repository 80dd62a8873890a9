"""What is known about a boundary? Pieces of evidence that add.

A piece of evidence is a description (which channel, which blur, whose contours). Adding pieces
gives an `Evidence`; `tabulate` reads the images once along the rays of a chart and gives the
terms the boundary model multiplies. Every modality keeps its own native grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Array, Float
from aistat_jax.boundary.charts import StarChart
from aistat_jax.boundary.families import (
    STATISTICS,
    AnchorTerm,
    ContourTerm,
    HardStep,
    LinearTable,
    StepPrior,
    Term,
    blurred_step,
)
from aistat_jax.boundary.tables import share_voxels, smooth_table, sorted_table
from aistat_jax.boundary.targets import Target
from aistat_jax.boundary.tempering import effective_fraction
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image

# Standard deviation of the point spread, mm, where the user states none.
BLUR_MM = {"SUV": 3.0, "HU": 0.8}
# Background is looked for outside this multiple of the target's rough radius.
STRIP_FROM = 1.4


@runtime_checkable
class Piece(Protocol):
    """Anything that can be tabulated along the rays of a chart."""

    def tabulate(self, target: Target, chart: StarChart) -> tuple[Term, ...]: ...


@record
class Evidence:
    """A sum of pieces; `a + b` adds two."""

    pieces: tuple[Piece, ...]

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.pieces + other.pieces)

    def tabulate(self, target: Target, chart: StarChart) -> tuple[Term, ...]:
        """The terms of every piece for one target."""
        return tuple(term for piece in self.pieces for term in piece.tabulate(target, chart))


def log_likelihood(terms: Sequence[Term], radii: Float[Array, " ray"]) -> Float[Array, ""]:
    """Sum of the terms' log-likelihoods of one boundary; costs a look-up per ray and term."""
    # A product with ones sums over rays: XLA would fuse jnp.sum with the look-up, ten times slower.
    ones = jnp.ones_like(radii)
    return sum(
        (term.log_likelihood(jnp.einsum("rs,r->s", term.statistics(radii), ones)) for term in terms),
        start=jnp.zeros(()),
    )


# ------------------------------------------------------------------------------ intensity


@record
class Samples:
    """Observations in a plane: points (voxel, 2), values (voxel,), footprint and grid spacing."""

    points: Float[np.ndarray, "voxel 2"]
    values: Float[np.ndarray, " voxel"]
    footprint: float
    eta: float


@record
class Intensity:
    """Intensities inside and outside the boundary; see `intensity` and `point_intensity`."""

    image: Image | None
    points: Float[np.ndarray, "voxel 2"] | None
    values: Float[np.ndarray, " voxel"] | None
    prior: StepPrior | None
    hyper: tuple[float, float, float, float] | None
    channels: tuple[str, ...] = static(default=())
    family: str = static(default="blurred")
    blur: float | None = static(default=None)
    temper: float | str = static(default="auto")

    def tabulate(self, target: Target, chart: StarChart) -> tuple[Term, ...]:
        if self.image is None:
            assert self.points is not None and self.values is not None
            eta = 1.0 if self.temper == "auto" else float(self.temper)
            samples = Samples(self.points, self.values, 0.0, eta)
            return (self._term(samples, chart, self.blur or 0.0),)
        return tuple(self._from_channel(name, target, chart) for name in self.channels)

    def _from_channel(self, name: str, target: Target, chart: StarChart) -> Term:
        assert self.image is not None
        channel = self.image[name].slice_at(target.plane)
        plane = channel.plane
        points = plane.points()
        radius, _ = chart.polar(points)
        inside = radius <= chart.radius_max
        if inside.sum() < 20:
            raise InputError(
                f"channel {name} has only {int(inside.sum())} voxels within "
                f"{chart.radius_max:.1f} {chart.unit} of the target's centre; "
                "choose a target inside the image or a larger radius"
            )
        if self.temper == "auto":
            strip = inside & (radius > STRIP_FROM * target.radius)
            eta = effective_fraction(channel.values, strip)
        else:
            eta = float(self.temper)
        width = float(np.sqrt(np.prod(plane.spacing)))
        default = BLUR_MM.get(channel.quantity, width) if plane.unit == "mm" else 1.0
        spread = self.blur if self.blur is not None else default
        blur = float(np.sqrt(spread**2 + width**2 / 12))
        return self._term(Samples(points[inside], channel.values[inside], width, eta), chart, blur)

    def _term(self, samples: Samples, chart: StarChart, blur: float) -> Term:
        y = np.asarray(samples.values, dtype=float)
        shared = share_voxels(chart, samples.points, samples.footprint)
        if self.family == "blurred":
            if not blur > 0:
                raise InputError("a blurred step needs a positive blur; pass blur=...")
            centre, scale = float(np.median(y)), float(np.std(y))
            if scale == 0:
                raise InputError("the image is constant around the target: no boundary to find")
            if self.prior is None:
                prior = StepPrior(*_arrays([0.0, 0.0], [1e-2, 1e-2], 0.5, 0.05))
                y = (y - centre) / scale
            else:
                prior = self.prior
            one = np.ones_like(y)
            table = smooth_table(chart, shared, [(one, 1), (one, 2), (y, 1)], blur)
            totals = np.array([len(y), y.sum(), np.square(y).sum()])
            return blurred_step(table, totals, samples.eta, prior)
        return self._hard_term(samples, y, shared, chart)

    def _hard_term(self, samples: Samples, y: np.ndarray, shared, chart: StarChart) -> Term:  # noqa: ANN001
        hyper = self.hyper
        if self.family == "gaussian":
            if hyper is None:
                y = (y - y.mean()) / y.std()
                hyper = (0.0, 0.01, 0.5, 0.05)
            fields = [np.ones_like(y), y, y * y]
        else:
            hyper = hyper or ((1.0, 1.0, 0, 0) if self.family == "bernoulli" else (0.5, 0.01, 0, 0))
            fields = [np.ones_like(y), y]
        width = np.sqrt(np.pi * chart.radius_max**2 / max(len(y), 1))
        exact = sorted_table(chart, shared, fields)
        smooth = smooth_table(chart, shared, [(f, 1) for f in fields], width)
        totals = np.array([f.sum() for f in fields])
        return HardStep(exact, smooth, *_arrays(totals, samples.eta, hyper), self.family)


def intensity(
    image: Image,
    channels: str | Sequence[str] | None = None,
    *,
    family: str = "blurred",
    blur: float | None = None,
    temper: float | str = "auto",
    prior: StepPrior | None = None,
    hyper: tuple[float, float, float, float] | None = None,
) -> Evidence:
    """Evidence of one or several image channels, each on its native grid.

    `family` is "blurred" (a step seen through a Gaussian point spread of sd `blur`, in the
    image's unit; differentiable), or a hard step "gaussian", "bernoulli" or "poisson".
    `temper` is the effective share of independent voxels, "auto" to estimate it from the
    background around the target, 1.0 for independent noise. `prior` and `hyper` replace the weak
    conjugate priors; with them the intensities are used as they are, otherwise standardised.

    Raises InputError for an unknown channel or family, a blur that is not positive, or a temper
    outside (0, 1].
    """
    names = image.names if channels is None else (channels,) if isinstance(channels, str) else channels
    for name in names:
        if name not in image.names:
            raise InputError(f"the image has no channel {name!r}; it has {', '.join(image.names)}")
    piece = Intensity(image, None, None, prior, hyper, tuple(names), family, blur, temper)
    return Evidence((_checked(piece),))


def point_intensity(
    points: Float[np.ndarray, "voxel 2"],
    values: Float[np.ndarray, " voxel"],
    *,
    family: str = "gaussian",
    blur: float | None = None,
    temper: float = 1.0,
    prior: StepPrior | None = None,
    hyper: tuple[float, float, float, float] | None = None,
) -> Evidence:
    """Evidence of intensities observed at scattered points of the plane.

    Shapes: points (voxel, 2) in-plane coordinates, values (voxel,). The other arguments are
    those of `intensity`; the blurred family needs a `blur`.
    """
    points, values = np.asarray(points, dtype=float), np.asarray(values, dtype=float)
    if points.shape != (len(values), 2) or not np.isfinite(values).all():
        raise InputError("points must be (voxel, 2) with one finite value each")
    piece = Intensity(None, points, values, prior, hyper, (), family, blur, temper)
    return Evidence((_checked(piece),))


def _checked(piece: Intensity) -> Intensity:
    if piece.family != "blurred" and piece.family not in STATISTICS:
        raise InputError(
            f"unknown intensity family {piece.family!r}; use 'blurred', "
            + ", ".join(repr(f) for f in STATISTICS)
        )
    if piece.blur is not None and not piece.blur > 0:
        raise InputError(f"blur must be positive, got {piece.blur}")
    if piece.temper != "auto" and not 0 < float(piece.temper) <= 1:
        raise InputError(f"temper must be 'auto' or in (0, 1], got {piece.temper}")
    return piece


def _arrays(*values: object) -> tuple[Array, ...]:
    return tuple(np.asarray(v, dtype=np.float64) for v in values)  # type: ignore[return-value]


# --------------------------------------------------------------------------------- logits


@record
class Logits:
    """Log-odds of being inside, voxel by voxel (a network's output or any classifier's)."""

    image: Image
    channel: str = static()
    temper: float = static(default=1.0)

    def tabulate(self, target: Target, chart: StarChart) -> tuple[Term, ...]:
        channel = self.image[self.channel].slice_at(target.plane)
        points = channel.plane.points()
        inside = chart.polar(points)[0] <= chart.radius_max
        width = float(np.sqrt(np.prod(channel.plane.spacing)))
        shared = share_voxels(chart, points[inside], width)
        # A voxel cut by the boundary counts by its share inside: a box of one voxel's width.
        table = smooth_table(chart, shared, [(channel.values[inside], 1)], width / np.sqrt(12))
        return (LinearTable(table, *_arrays(self.temper)),)


def logits(image: Image, channel: str | None = None, *, temper: float = 1.0) -> Evidence:
    """Evidence of a map of log-odds: sum over voxels inside of their log-odds.

    `image` holds the log-odds as a channel (the first one unless named). `temper` shrinks
    over-confident or correlated log-odds.
    """
    name = image.names[0] if channel is None else channel
    if name not in image.names:
        raise InputError(f"the image has no channel {name!r}; it has {', '.join(image.names)}")
    if not 0 < temper <= 1:
        raise InputError(f"temper must be in (0, 1], got {temper}")
    return Evidence((Logits(image, name, temper),))


# ------------------------------------------------------------------------ raters, anchors


@record
class Raters:
    """Contours drawn by raters, with shared size of error; see `raters`."""

    curves: tuple[Curve, ...]
    sd: float = static()
    constant_share: float = static()
    correlation: float = static()

    def tabulate(self, target: Target, chart: StarChart) -> tuple[Term, ...]:
        radii = np.stack([chart.radii_of(curve) for curve in self.curves])
        mean = radii.mean(axis=0)
        gap = np.abs(chart.angles[:, None] - chart.angles[None, :])
        arc = np.minimum(gap, 2 * np.pi - gap) * mean.mean()
        local = (1 - self.constant_share) * np.exp(-arc / self.correlation)
        covariance = self.sd**2 * (self.constant_share + local)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance))
        residual = (radii - mean) @ whiten.T
        constant = -0.5 * np.square(residual).sum() + len(radii) * (
            np.log(np.diag(whiten)).sum() - 0.5 * len(mean) * np.log(2 * np.pi)
        )
        return (ContourTerm(*_arrays(mean, whiten, len(radii), constant)),)


def raters(
    curves: Sequence[Curve],
    *,
    sd: float = 1.0,
    constant_share: float = 0.3,
    correlation: float = 4.0,
) -> Evidence:
    """Evidence of contours drawn by people.

    A rater's radius is the boundary's plus an error of standard deviation `sd`: a share
    `constant_share` of its variance is one dilation of the whole contour, the rest falls off
    exponentially over `correlation` along the contour. Lengths in the image's unit; the
    defaults are what radiotherapy and lung-nodule readers show in millimetres.
    """
    if not curves:
        raise InputError("raters needs at least one contour")
    if not (sd > 0 and correlation > 0 and 0 <= constant_share < 1):
        raise InputError("raters needs sd > 0, correlation > 0 and constant_share in [0, 1)")
    return Evidence((Raters(tuple(curves), sd, constant_share, correlation),))


@record
class Anchors:
    """Clicks of an expert; see `anchors`."""

    points: Float[np.ndarray, "click 2"]
    sd: float = static()
    side: int = static()

    def tabulate(self, target: Target, chart: StarChart) -> tuple[Term, ...]:
        radius, _ = chart.polar(self.points)
        shared = share_voxels(chart, self.points)
        weights = np.zeros((len(radius), len(chart.angles)))
        np.add.at(weights, (shared.voxel, shared.ray), shared.share)
        sd, side = np.full(len(radius), self.sd), np.full(len(radius), float(self.side))
        return (AnchorTerm(*_arrays(weights, radius, sd, side)),)


def anchors(
    points: Float[np.ndarray, "click 2"], *, kind: str = "edge", sd: float = 1.0
) -> Evidence:
    """Evidence of clicks: the boundary passes within about `sd` of each point (kind "edge"),
    or leaves it "inside" or "outside".

    Shapes: points (click, 2) in-plane coordinates; sd in the image's unit.
    """
    sides = {"edge": 0, "inside": 1, "outside": -1}
    points = np.atleast_2d(np.asarray(points, dtype=float))
    if kind not in sides:
        raise InputError(f"unknown anchor kind {kind!r}; use 'edge', 'inside' or 'outside'")
    if points.shape[-1] != 2 or not np.isfinite(points).all() or not sd > 0:
        raise InputError("anchors need finite points (click, 2) and a positive sd")
    return Evidence((Anchors(points, sd, sides[kind]),))
