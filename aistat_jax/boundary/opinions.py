"""What do others say about a boundary? A classifier's log-odds, raters' contours, clicks, and
whatever else has a likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import ArrayLike, Float
from aistat_jax.boundary.answers import Observation, Tabulated, Truth
from aistat_jax.boundary.doors import check_function
from aistat_jax.boundary.evidence import Evidence, check_channel, voxels_around
from aistat_jax.boundary.families import (
    AnchorTerm,
    ContourTerm,
    FunctionTerm,
    LinearTable,
    Term,
    function_name,
    leaves,
)
from aistat_jax.boundary.sameness import first_of
from aistat_jax.boundary.tables import smooth_table
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.chart import LINKS, Chart
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image

SIDES = {"edge": 0.0, "inside": 1.0, "outside": -1.0}
# Clicks come in terms of this many, so that one more does not compile the fit anew.
CLICK_BUCKET = 8


def _one_boundary(chart: Chart, source: str) -> None:
    """Refuse what says of one boundary to a chart that has several."""
    if LINKS[chart.link].layers > 1:
        raise InputError(
            f"{source} say of one boundary, and a ring has two; leave them out, or contour its "
            "outer and its inner boundary as two targets"
        )


# --------------------------------------------------------------------------------- logits


@record
class Logits:
    """Log-odds of being inside, voxel by voxel (a network's output or any classifier's)."""

    image: Image
    channel: str = static()
    temper: float = static(default=1.0)

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[Term, ...]:
        _one_boundary(chart, "log-odds")
        voxels = voxels_around(self.image, self.channel, target, chart)
        shared = chart.share(voxels.points, voxels.width)
        # A voxel cut by the boundary counts by its share inside: a box of one voxel's width.
        table = smooth_table(chart, shared, [(voxels.values, 1)], voxels.width / np.sqrt(12))
        return (LinearTable(table, *leaves(self.temper)),)


def logits(image: Image, channel: str | None = None, *, temper: float = 1.0) -> Evidence:
    """Evidence of a map of log-odds: sum over voxels inside of their log-odds.

    `image` holds the log-odds as a channel (the first one unless named), such as
    `network_logits` makes. `temper` shrinks over-confident or correlated log-odds.
    """
    name = image.names[0] if channel is None else channel
    check_channel(image, name)
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

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[Term, ...]:
        _one_boundary(chart, "raters' contours")
        for curve in self.curves:
            if curve.unit != chart.unit:
                raise InputError(
                    f"a rater's contour is in {curve.unit} but the image is in {chart.unit}; "
                    "give both the same unit"
                )
        radii = np.stack([chart.values_of(curve) for curve in self.curves])
        mean = radii.mean(axis=0)
        arc = chart.distance(mean)
        local = (1 - self.constant_share) * np.exp(-arc / self.correlation)
        covariance = self.sd**2 * (self.constant_share + local)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance))
        residual = (radii - mean) @ whiten.T
        constant = -0.5 * np.square(residual).sum() + len(radii) * (
            np.log(np.diag(whiten)).sum() - 0.5 * len(mean) * np.log(2 * np.pi)
        )
        return (ContourTerm(*leaves(mean, whiten, len(radii), constant)),)

    @property
    def names(self) -> tuple[str, ...]:
        return ("the raters",)

    def redrawn(self, rng: np.random.Generator, read: Tabulated, truth: Truth) -> Raters:
        """As many raters again, who draw anew."""
        spread, radii = np.linalg.inv(_whiten(read)), truth.values
        drawn = radii + rng.standard_normal((len(self.curves), len(radii))) @ spread.T
        floor = 0.05 * radii
        curves = tuple(read.chart.surface(np.maximum(each, floor)) for each in drawn)
        return replace(self, curves=curves)

    def observations(
        self, rng: np.random.Generator, read: Tabulated, draws: np.ndarray, chosen: np.ndarray
    ) -> list[Observation]:
        """One a rater."""
        drawn = np.stack([read.chart.values_of(curve) for curve in self.curves])
        whiten = _whiten(read)
        constant = np.log(np.diag(whiten)).sum() - 0.5 * len(whiten) * np.log(2 * np.pi)
        error = (drawn - draws[:, None]) @ whiten.T
        noise = rng.standard_normal((len(chosen), *drawn.shape)) @ np.linalg.inv(whiten).T
        logs = constant - 0.5 * np.square(error).sum(axis=-1)
        predicted = draws[chosen, None] + noise
        return [Observation("raters", logs, "rater", drawn, predicted, "rater")]


def _whiten(read: Tabulated) -> np.ndarray:
    term: Any = read.terms[0]
    return np.asarray(term.whiten)


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
    """Clicks of an expert; see `anchors`. Shapes: points (click, dims), sd and side (click,)."""

    points: Float[np.ndarray, "click dims"]
    sd: Float[np.ndarray, " click"]
    side: Float[np.ndarray, " click"]
    heavy: bool = static(default=False)

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[Term, ...]:
        _one_boundary(chart, "clicks")
        # No click at all fills one bucket too, so that what it compiles serves the first click.
        count = len(self.points)
        spare = -count % CLICK_BUCKET if count else CLICK_BUCKET
        weights, radius = np.zeros((count + spare, chart.sites)), np.zeros(0)
        if count:
            radius, shared = chart.position(self.points), chart.share(self.points)
            np.add.at(weights, (shared.voxel, shared.site), shared.share)
        # What fills a bucket up is surely inside every boundary: it adds exactly nothing.
        radius = np.append(radius, np.full(spare, -1e6))
        sd, side = np.append(self.sd, np.ones(spare)), np.append(self.side, np.ones(spare))
        return (AnchorTerm(*leaves(weights, radius, sd, side, float(self.heavy))),)

    @property
    def names(self) -> tuple[str, ...]:
        """No source: clicks are made to overrule."""
        return ("",)

    def redrawn(self, rng: np.random.Generator, read: Tabulated, truth: Truth) -> Anchors:
        """Clicks on the edge fall elsewhere along their rays; the others are answered anew."""
        clicks, chart = len(self.points), read.chart
        edge = (_weights(read) @ truth.values)[:clicks]
        shown = chart.position(self.points)
        error = self._errors(rng, clicks)
        place = np.where(self.side == 0, np.maximum(edge + error, 0.0), shown)
        side = np.where(self.side == 0, 0.0, np.where(shown <= edge + error, 1.0, -1.0))
        moved = (place - shown)[:, None] * chart.outward(self.points)
        return replace(self, points=self.points + moved, side=side)

    def observations(
        self, rng: np.random.Generator, read: Tabulated, draws: np.ndarray, chosen: np.ndarray
    ) -> list[Observation]:
        """One a click. Those inside or outside are answers, not places: nothing is predicted where
        there are any."""
        from scipy import stats

        count = len(self.points)
        if count == 0:
            return []
        edge = (draws @ _weights(read).T)[:, :count]
        seen = read.chart.position(self.points)
        z = (edge - seen) / self.sd
        law: Any = stats.t(2) if self.heavy else stats.norm
        sides = law.logcdf(self.side * z)
        logs = np.where(self.side == 0, law.logpdf(z) - np.log(self.sd), sides)
        if (self.side != 0).any():
            return [Observation("clicks", logs, "click", None, None, "click")]
        predicted = edge[chosen] + self._errors(rng, (len(chosen), count))
        return [Observation("clicks", logs, "click", seen, predicted, "click")]

    def _errors(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """How far from clicks the boundary passes."""
        standard = rng.standard_t(2, shape) if self.heavy else rng.standard_normal(shape)
        return self.sd * standard


def _weights(read: Tabulated) -> np.ndarray:
    term: Any = read.terms[0]
    return np.asarray(term.weights)


def anchors(
    points: ArrayLike | Sequence[Sequence[float]],
    *,
    kind: str | Sequence[str] = "edge",
    sd: float | Sequence[float] = 1.0,
    heavy: bool = False,
) -> Evidence:
    """Evidence of clicks: the boundary passes within about `sd` of each point (kind "edge"),
    or leaves it "inside" or "outside".

    Errors are `sd` times a standard normal; with `heavy`, times a Student t of two degrees of
    freedom: a point that no boundary of the model comes near to is then left where it is.
    Shapes: points (click, 2) in-plane coordinates, or (click, 3) in space for a surface; sd in the
    image's unit; `kind` and `sd` are one for all, or one a click. No click at all is no evidence,
    and allowed.
    Raises InputError for points that are not finite, an unknown kind, or an sd not positive.
    """
    points = np.asarray(points, dtype=float)
    points = points.reshape(1, -1) if points.ndim == 1 and points.size else points
    points = points.reshape(-1, 2) if points.size == 0 else points
    if points.ndim != 2 or points.shape[1] not in (2, 3) or not np.isfinite(points).all():
        raise InputError("anchors need finite points (click, 2), or (click, 3) in space")
    kinds = [kind] * len(points) if isinstance(kind, str) else list(kind)
    for name in {*kinds, *([kind] if isinstance(kind, str) else [])}:
        if name not in SIDES:
            raise InputError(f"unknown anchor kind {name!r}; use 'edge', 'inside' or 'outside'")
    spread = np.asarray(sd, dtype=float)
    if len(kinds) != len(points) or spread.shape not in ((), (len(points),)):
        raise InputError("anchors need one kind and one sd for all points, or one for each")
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise InputError(f"anchors need a positive sd, got {sd}")
    side = np.array([SIDES[name] for name in kinds], dtype=float)
    return Evidence((Anchors(points, np.broadcast_to(spread, len(points)).copy(), side, heavy),))


# --------------------------------------------------------------------------- one's own term


@record
class Own:
    """A log-likelihood of one's own; see `term`."""

    values: tuple[Any, ...]
    function: Callable[..., Any] = static()
    differentiable: bool = static(default=True)

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[Term, ...]:
        values = leaves(*self.values)
        layers = LINKS[chart.link].layers
        rough = target.radius if layers == 1 else target.size[0]
        start = np.repeat(np.asarray(rough, dtype=float), chart.sites // layers)
        check_function(self.function, values, start)
        return (FunctionTerm(values, self.function, self.differentiable),)

    @property
    def names(self) -> tuple[str, ...]:
        return (f"the term `{function_name(self.function)}`",)


def term(
    function: Callable[..., Any], *values: ArrayLike | float, differentiable: bool = True
) -> Evidence:
    """Evidence of a log-likelihood of one's own, `function(radii, *values) -> scalar`.

    `function` is written in jax.numpy and given the boundary's radii (ray,), in the chart's unit,
    ray j at angle 2 pi j / ray counter-clockwise from the first axis of the slice; `values` are
    its data, as arrays. Like all evidence it adds: `intensity(image) + term(mine, clicks)`.
    Pass data as `values` rather than closing over them: models that differ in their values alone
    then share what is compiled, also where the same function is defined again, if it reads nothing
    but its arguments and modules such as jax.numpy. `differentiable=False` for a
    log-likelihood that jumps, which is not for NUTS or VI.

    Terms read from tables, at a look-up a ray, follow the protocols `evidence.Piece` and
    `families.Term` instead.

    Raises InputError for values that are not numbers; and, when it is made part of a model, for a
    function that JAX cannot trace, that does not take radii and these values, whose result is not
    one real number (an array is not summed for you), or is not a number where the fit starts.

    >>> def diameter(radii, measured, sd):
    ...     return -0.5 * ((radii[0] + radii[len(radii) // 2] - measured) / sd) ** 2
    >>> evidence = term(diameter, 42.0, 1.5)
    """
    try:
        leaves(*values)
    except (TypeError, ValueError):
        raise InputError(
            f"the values of the term `{function_name(function)}` must be numbers or arrays of "
            f"numbers, got {', '.join(type(value).__name__ for value in values)}"
        ) from None
    return Evidence((Own(tuple(values), first_of(function), differentiable),))
