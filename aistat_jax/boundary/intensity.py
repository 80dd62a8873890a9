"""What do the intensities of an image say about a boundary?

Inside and outside differ in level: a step seen through the scanner's point spread ("blurred"),
or a hard step between two members of an exponential family. families.py integrates the levels
out; here the voxels of each channel are read along the rays of a chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import ArrayLike, Float
from aistat_jax.boundary.answers import Tabulated, Truth
from aistat_jax.boundary.discs import Blur, disc_table
from aistat_jax.boundary.evidence import Evidence, check_channel
from aistat_jax.boundary.families import (
    STATISTICS,
    BlurredStep,
    HardStep,
    StepPrior,
    Term,
    blurred_step,
    leaves,
)
from aistat_jax.boundary.nested import nested_step
from aistat_jax.boundary.observed import Voxels
from aistat_jax.boundary.redrawn import intensities
from aistat_jax.boundary.samples import Samples, channel_samples
from aistat_jax.boundary.tables import smooth_table, sorted_table
from aistat_jax.boundary.targets import AnyTarget, Taper
from aistat_jax.boundary.uneven import CORE_AT, CORE_OVER, SeenAtStart, UnevenStep, uneven_step
from aistat_jax.boundary.uneven_levels import core_share
from aistat_jax.space.chart import LINKS, Chart, Shares
from aistat_jax.space.image import Image

# A blur finer than this share of the chart's radius is a hard step that fills the memory.
FINEST_BLUR = 1e-3
# Weak conjugate priors; the first two in units of the standardised intensity.
STEP_PRIOR = ([0.0, 0.0], [1e-4, 1e-4], 0.5, 0.05)
HYPER = {
    "gaussian": (0.0, 0.01, 0.5, 0.05),
    "bernoulli": (1.0, 1.0, 0.0, 0.0),
    "poisson": (0.5, 0.01, 0.0, 0.0),
}
_POSITIVE = {"gaussian": slice(1, 4), "bernoulli": slice(0, 2), "poisson": slice(0, 2)}


@record
class Intensity:
    """Intensities inside and outside the boundary; see `intensity` and `point_intensity`."""

    image: Image | None
    points: Float[np.ndarray, "voxel dims"] | None
    values: Float[np.ndarray, " voxel"] | None
    prior: StepPrior | None
    hyper: tuple[float, float, float, float] | None
    channels: tuple[str, ...] = static(default=())
    family: str = static(default="blurred")
    blur: float | None = static(default=None)
    temper: float | str = static(default="auto")
    curved: bool = static(default=False)
    noise: str = static(default="constant")
    levels: str = static(default="even")

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[Term, ...]:
        names = self.channels if self.image is not None else ("points",)
        read = (self.samples(name, target, chart) for name in names)
        return tuple(self._term(samples, target, chart) for samples in read)

    @property
    def names(self) -> tuple[str, ...]:
        """Its channels; scattered points are a source without a name."""
        return self.channels if self.image is not None else ("the intensity",)

    def redrawn(self, rng: np.random.Generator, read: Tabulated, truth: Truth) -> Intensity:
        """With new values: those of a slice, of a box around a surface, or of its points."""
        return intensities(rng, self, read, truth)

    def counted(self, read: Tabulated) -> list[Voxels]:
        """Read again from its image; none of a ring, whose voxels have three levels."""
        if LINKS[read.chart.link].layers > 1:
            return []
        return [
            self._voxels(name, term, read)
            for name, term in zip(self.channels or ("points",), read.terms, strict=True)
        ]

    def _voxels(self, name: str, term: Any, read: Tabulated) -> Voxels:
        # how many voxels count is known already, and dear to find out
        known = replace(self, temper=float(term.eta))
        samples = known.samples(name, read.target, read.chart)
        values = np.asarray(samples.values, dtype=float)
        centre, scale = self.standard(values)
        return Voxels(
            name, term, read.chart.share(samples.points, samples.footprint), samples.points,
            values, samples.precisions, samples.footprint, centre, scale,
            None if self.image is None else self.image[name],
        )  # fmt: skip

    def samples(self, name: str, target: AnyTarget, chart: Chart) -> Samples:
        """What is counted of one channel, or of the scattered points."""
        if self.image is not None:
            return channel_samples(
                self.image, name, target, chart,
                spread=self.blur, temper=self.temper, noise=self.noise,
            )  # fmt: skip
        assert self.points is not None
        assert self.values is not None
        even, blur = np.ones(len(self.values)), Blur(self.blur or 0.0)
        return Samples(self.points, self.values, even, 0.0, float(self.temper), blur)

    def standard(self, y: np.ndarray) -> tuple[float, float]:
        """Centre and scale that the values are freed of, (0, 1) where a prior is in their units."""
        if self.family == "blurred" and self.prior is None:
            return float(np.median(y)), float(np.std(y))
        if self.family == "gaussian" and self.hyper is None:
            return float(y.mean()), float(y.std())
        return 0.0, 1.0

    def _term(self, samples: Samples, target: AnyTarget, chart: Chart) -> Term:
        y = np.asarray(samples.values, dtype=float)
        if np.ptp(y) == 0:
            raise InputError("the image is constant around the target: no boundary to find")
        shared = chart.share(samples.points, samples.footprint)
        if self.family == "blurred":
            return self._blurred_term(samples, y, shared, target, chart)
        return self._hard_term(samples, y, shared, chart)

    def _blurred_term(
        self, samples: Samples, y: np.ndarray, shared: Shares, target: AnyTarget, chart: Chart
    ) -> Term:
        from scipy.special import ndtr

        blur = samples.blur
        if blur.within < FINEST_BLUR * chart.reach[1]:
            raise InputError(
                f"a blur of {blur.within:.2g} {chart.unit} is too fine for a region of radius "
                f"{chart.reach[1]:.4g} {chart.unit}; use the hard step family='gaussian'"
            )
        prior = self.prior
        if prior is None:
            prior = StepPrior(*leaves(*STEP_PRIOR))
        centre, scale = self.standard(y)
        y = (y - centre) / scale
        w, wy = samples.precisions, samples.precisions * y
        statistics = [(w, 1), (w, 2), (wy, 1)]
        if LINKS[chart.link].layers > 1:
            if self.levels == "uneven":
                raise InputError("a ring has one level in its wall; leave levels at 'even'")
            return self._nested_term(samples, chart, shared, statistics, prior)
        core = np.zeros(len(y))
        if self.levels == "uneven":
            position = np.zeros(len(y))
            position[shared.voxel] = shared.position
            middle = float(LINKS[chart.link].times(target.radius, CORE_AT))
            core = core_share(position, middle, CORE_OVER * target.radius)
            statistics = [(w, 1), (w, 2), (w * core, 1), (wy, 1)]
        # What a disc would look like is told of radii alone.
        disc = self.curved and chart.link == "log" and target.seen_as_disc(blur.within)
        taper = target.taper
        if disc:
            table = disc_table(chart, shared, statistics, blur, taper)
        else:
            table = smooth_table(chart, shared, statistics, blur.within)
        totals = np.array([len(y), wy.sum(), (wy * y).sum()])
        section = None
        if disc:
            taper = taper or Taper(0.0, 0.0)
            section = (blur.across, blur.offset, taper.slope, taper.bend)
        eta = samples.eta
        bending = chart.bending(blur.within, 0.0 if disc else 1.0) if self.curved else None
        if self.levels == "uneven":
            start, pair = start_of(target, chart)[shared.site], shared.voxel
            share = ndtr((start - shared.position) / blur.within)
            part, zero = shared.share, -centre / scale
            counted = SeenAtStart(
                shared.site, core[pair], share, y[pair], part, part * w[pair], zero
            )
            term: BlurredStep | UnevenStep = uneven_step(
                table,
                totals,
                eta,
                prior,
                blur.within,
                chart,
                target.radius,
                counted,
                bending,
                section,
            )
            eta = float(term.eta)
        else:
            term = blurred_step(table, totals, eta, prior, blur.within, bending, section)
        weighted = 0.5 * eta * np.log(w).sum()  # noise that is not equal everywhere
        return replace(term, constant=np.asarray(term.constant + weighted))

    def _nested_term(
        self, samples: Samples, chart: Chart, shared: Shares, statistics: Any, prior: StepPrior
    ) -> Term:
        """Three levels: outside, between the boundaries, and inside of both."""
        (w, _), _, (wy, _) = statistics
        blur, eta, side = samples.blur.within, samples.eta, samples.footprint
        table = smooth_table(chart, shared, statistics, blur)
        totals = np.array([len(w), wy.sum(), (wy * wy / w).sum()])
        # how many voxels there are to an area; scattered points are taken to be everywhere
        dense = 1 / side**2 if side > 0 else len(w) / chart.extent
        sector = dense * 4 * np.pi / chart.sites
        bending = chart.bending(blur) if self.curved else None
        term = nested_step(table, totals, eta, prior, blur, sector, bending)
        uneven = 0.5 * eta * np.log(w).sum()
        return replace(term, constant=np.asarray(term.constant + uneven))

    def _hard_term(self, samples: Samples, y: np.ndarray, shared: Shares, chart: Chart) -> Term:
        if LINKS[chart.link].layers > 1:
            raise InputError(
                f"a ring has three levels, which the {self.family} family does not tell apart; "
                "leave family at 'blurred'"
            )
        if self.family == "bernoulli" and not ((y >= 0) & (y <= 1)).all():
            raise InputError(
                f"the bernoulli family needs values between 0 and 1, got {y.min():g} to {y.max():g}"
            )
        if self.family == "poisson" and not (y >= 0).all():
            raise InputError(f"the poisson family needs counts of at least 0, got {y.min():g}")
        centre, scale = self.standard(y)
        y = (y - centre) / scale
        hyper = HYPER[self.family] if self.hyper is None else self.hyper
        fields = [y**power for power in range(STATISTICS[self.family])]
        width = (chart.extent / len(y)) ** (1 / chart.dims)
        exact = sorted_table(chart, shared, fields)
        smooth = smooth_table(
            chart, shared, [(f, 1) for f in fields], max(width, FINEST_BLUR * chart.reach[1])
        )
        totals = np.array([f.sum() for f in fields])
        totals, eta, hyper = leaves(totals, samples.eta, hyper)
        return HardStep(exact, smooth, totals, eta, hyper, self.family)


def intensity(
    image: Image,
    channels: str | Sequence[str] | None = None,
    *,
    family: str = "blurred",
    blur: float | None = None,
    temper: float | str = "auto",
    prior: StepPrior | None = None,
    hyper: tuple[float, float, float, float] | None = None,
    curved: bool = True,
    noise: str = "constant",
    levels: str = "even",
) -> Evidence:
    """Evidence of one or several image channels, each on its native grid.

    `family` is "blurred" (a step seen through a Gaussian point spread of sd `blur`, in the
    image's unit; differentiable), or a hard step "gaussian", "bernoulli" or "poisson".
    `temper` is the effective share of independent voxels, "auto" to estimate it from the
    background around the target, 1.0 for independent noise. `prior` and `hyper` replace the weak
    conjugate priors; with them the intensities are used as they are, otherwise standardised.
    `curved` corrects for the point spread being two-dimensional, which draws the apparent edge
    of a blurred step inwards where it bends (`star.StarBending`); for small targets, and
    for those whose sections change from slice to slice, the image of a disc stands in for the
    step (discs.py). `noise` of a blurred
    step is "constant" or "poisson" (variance proportional to the mean; better for noise that is
    uncorrelated, worse for lesions of uneven uptake). `levels` are "even", one inside and one
    outside, or "uneven": inside, the level is a smooth field of direction, and a core may differ
    from the rim, as in lesions of uneven uptake or with a necrosis (uneven.py).

    Raises InputError for an unknown channel or family, a blur or a prior that is not positive,
    or a temper outside (0, 1].
    """
    if isinstance(channels, str):
        channels = (channels,)
    names = image.names if channels is None else tuple(channels)
    for name in names:
        check_channel(image, name)
    piece = Intensity(
        image, None, None, prior, hyper, names, family, blur, temper, curved, noise, levels
    )
    return Evidence((_checked(piece),))


def point_intensity(
    points: ArrayLike,
    values: ArrayLike,
    *,
    family: str = "gaussian",
    blur: float | None = None,
    temper: float | str = 1.0,
    prior: StepPrior | None = None,
    hyper: tuple[float, float, float, float] | None = None,
    curved: bool = False,
) -> Evidence:
    """Evidence of intensities observed at scattered points of the plane, or of space.

    Shapes: points (voxel, 2) in-plane coordinates or (voxel, 3), values (voxel,). The other
    arguments are those of `intensity`; the blurred family needs a `blur`, and there is no
    automatic temper.
    """
    points, values = np.asarray(points, dtype=float), np.asarray(values, dtype=float)
    if (
        values.ndim != 1
        or points.shape not in {(len(values), 2), (len(values), 3)}
        or not (np.isfinite(values).all() and np.isfinite(points).all())
    ):
        raise InputError(
            "points must be (voxel, 2) or (voxel, 3), finite, with one finite value each"
        )
    if family == "blurred" and blur is None:
        raise InputError("a blurred step at scattered points needs a positive blur; pass blur")
    if temper == "auto":
        raise InputError("scattered points have no automatic temper; pass a number in (0, 1]")
    piece = Intensity(None, points, values, prior, hyper, (), family, blur, temper, curved)
    return Evidence((_checked(piece),))


def start_of(target: AnyTarget, chart: Chart) -> Float[np.ndarray, " ray"]:
    """The outline that a target was found as, or a round boundary of its rough radius."""
    least = LINKS[chart.link].times(target.radius, 0.2)
    if target.outline is None:
        return np.full(chart.sites, LINKS[chart.link].times(target.radius, 1.0))
    return np.maximum(chart.values_of(target.outline), least)


def _checked(piece: Intensity) -> Intensity:
    if piece.family != "blurred" and piece.family not in STATISTICS:
        raise InputError(
            f"unknown intensity family {piece.family!r}; use 'blurred', "
            + ", ".join(repr(f) for f in STATISTICS)
        )
    if piece.noise not in ("constant", "poisson"):
        raise InputError(f"noise must be 'constant' or 'poisson', got {piece.noise!r}")
    if piece.levels not in ("even", "uneven"):
        raise InputError(f"levels must be 'even' or 'uneven', got {piece.levels!r}")
    if piece.levels == "uneven" and piece.family != "blurred":
        raise InputError(f"uneven levels need the family 'blurred', got {piece.family!r}")
    if piece.blur is not None and not (np.isfinite(piece.blur) and piece.blur > 0):
        raise InputError(f"blur must be positive, got {piece.blur}")
    temper = piece.temper
    if temper != "auto" and (isinstance(temper, str) or not 0 < float(temper) <= 1):
        raise InputError(f"temper must be 'auto' or in (0, 1], got {temper!r}")
    if piece.hyper is not None and piece.family != "blurred":
        hyper = np.asarray(piece.hyper, dtype=float)
        scales = hyper[_POSITIVE[piece.family]] if hyper.shape == (4,) else np.zeros(1)
        if not (np.isfinite(hyper).all() and (scales > 0).all()):
            raise InputError(
                f"hyper of the {piece.family} family must be 4 numbers, its scales positive, "
                f"got {piece.hyper}"
            )
    if piece.prior is not None:
        scales = [np.ravel(v) for v in (piece.prior.precision, piece.prior.shape, piece.prior.rate)]
        if not (np.concatenate(scales) > 0).all():
            raise InputError("the precision, shape and rate of a StepPrior must be positive")
    return piece
