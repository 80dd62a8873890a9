"""What did several raters draw of several cases, in millimetres about a reference?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Float
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import slant
from aistat_jax.space.curve import Curve, as_polygons
from aistat_jax.space.grid import Plane
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.sphere_sites import sphere_analysis, sphere_basis
from aistat_jax.space.star import star_chart

# Sites and order of the basis on which drawings are read, by dimension.
RAYS, HARMONICS = 64, 16
FREQUENCY, DEGREE = 8, 12
# A chart reaches so many times as far as the drawings do.
BEYOND = 3.0
# An area (volume) below this share of the square (cube) about it is none.
LEAST_CONTENT = 1e-9


@record
class Drawing:
    """What one rater drew of one case: a closed contour, or None who saw nothing to draw.

    `contour` is a `Curve` in the case's slice, a `Mesh` in space, or None. A rater who was not
    asked has no drawing at all. `tool` is what was drawn with, where several are compared.

    >>> square = Curve(np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]]))
    >>> Drawing("P01", "Doe", square).tool, Drawing("P01", "Roe", None).contour
    ('', None)
    """

    case: str = static()
    rater: str = static()
    contour: Curve | Mesh | None
    tool: str = static(default="")


@record
class DrawnCase:
    """The contours of one case on one chart, as offsets along the normals of their mean.

    With y a drawing's values, `reference` the mean of them, s the secant of the angle between a
    site and the normal there, offsets are z = (y - reference) / s = functions @ coefficients +
    rest. `circle` are the coefficients of the circle (sphere) of the case's size, which is the
    radius of one of the mean's area (volume).

    Shapes: reference, secant (site,), coefficients (drawing, basis), rest (drawing, site),
    circle (basis,), size ().
    """

    chart: Any  # a StarChart or SphereChart
    reference: Float[np.ndarray, " site"]
    secant: Float[np.ndarray, " site"]
    coefficients: Float[np.ndarray, "drawing basis"]
    rest: Float[np.ndarray, "drawing site"]
    circle: Float[np.ndarray, " basis"]
    size: float
    drawings: tuple[Drawing, ...]

    def values(self, offsets: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """The chart's values of offsets from the reference, never nearer to the centre than 0."""
        found = self.reference + self.secant * offsets
        return np.maximum(found, 1e-3 * self.reference)

    def offsets(self, contour: Curve | Mesh) -> Float[np.ndarray, " site"]:
        """How far outside of the reference another contour lies, along its normals."""
        return (self.chart.values_of(contour) - self.reference) / self.secant


def basis_of(dims: int) -> tuple[Basis, Float[np.ndarray, "basis site"]]:
    """The functions on which drawings are told, and what takes values to their coefficients."""
    if dims == 3:
        return sphere_basis(FREQUENCY, DEGREE), sphere_analysis(FREQUENCY, DEGREE)
    return _circle()


@cache
def _circle() -> tuple[Basis, np.ndarray]:
    basis = star_chart(np.zeros(2), 1.0, _plane("px"), RAYS).basis(HARMONICS)
    return basis, np.asarray(basis.functions).T / RAYS


def read_case(drawings: Sequence[Drawing]) -> DrawnCase:
    """The contours of one case on a star about a point that all of them hold.

    Raises InputError where there is none: regions that have no point in common.
    """
    drawn = tuple(each for each in drawings if each.contour is not None)
    contours: list[Any] = [each.contour for each in drawn]
    chart = _common_chart(drawn)
    values = np.stack([chart.values_of(contour) for contour in contours])
    basis, analysis = basis_of(chart.dims)
    reference = values.mean(axis=0)
    smooth = np.maximum(np.asarray(basis.functions) @ (analysis @ reference), 0.1 * reference)
    secant = 1 / slant(chart, smooth)
    offsets = (values - reference) / secant
    coefficients = offsets @ analysis.T
    rest = offsets - coefficients @ np.asarray(basis.functions).T
    content = float(chart.content(reference[None])[0])
    size = (0.75 * content / np.pi) ** (1 / 3) if chart.dims == 3 else np.sqrt(content / np.pi)
    circle = analysis @ ((size - reference) / secant)
    return DrawnCase(
        chart, reference, secant, coefficients, rest, circle, float(size), tuple(drawings)
    )


def check_drawings(drawings: Sequence[Drawing]) -> None:
    """Raises InputError for drawings that do not go together in one model."""
    drawn: list[tuple[Drawing, Curve | Mesh]] = []
    for each in drawings:
        if each.contour is not None:
            drawn.append((each, each.contour))
    if not drawn:
        raise InputError("no drawing has a contour; there is nothing to learn of raters")
    kinds = {(type(contour).__name__, contour.unit) for _, contour in drawn}
    if len(kinds) > 1:
        found = " and ".join(f"{kind} in {unit}" for kind, unit in sorted(kinds))
        raise InputError(
            f"drawings must all be Curves or all Meshes, in one unit, got {found}; convert them"
        )
    seen = set()
    for each in drawings:
        key = (each.case, each.rater, each.tool)
        if key in seen:
            with_tool = f" with {each.tool}" if each.tool else ""
            raise InputError(
                f"rater {each.rater} has two drawings of case {each.case}{with_tool}; name a "
                "second one by its tool or session, or leave it out"
            )
        seen.add(key)
    drawn_by: dict[tuple[str, str], list[Drawing]] = {}
    for each, contour in drawn:
        for other in drawn_by.setdefault((each.case, each.rater), []):
            if other.contour is not None and _same(contour, other.contour):
                raise InputError(
                    f"the drawings of case {each.case} by rater {each.rater} with tools "
                    f"{other.tool!r} and {each.tool!r} are the same to the last point; leave the "
                    "copy out"
                )
        drawn_by[each.case, each.rater].append(each)
        if not np.isfinite(contour.points).all():
            raise InputError(
                f"the drawing of case {each.case} by rater {each.rater} has points that are NaN or "
                "infinite; leave them out"
            )
        if len(contour.points) < 3:
            raise InputError(
                f"the drawing of case {each.case} by rater {each.rater} has "
                f"{len(contour.points)} points, which close no curve; pass None for an "
                "empty drawing"
            )
        if _content(contour) <= LEAST_CONTENT * np.ptp(contour.points) ** contour.points.shape[1]:
            kind = "area" if isinstance(contour, Curve) else "volume"
            raise InputError(
                f"the drawing of case {each.case} by rater {each.rater} encloses no {kind}; pass "
                "None for an empty drawing"
            )


def _content(contour: Curve | Mesh) -> float:
    """Area or volume inside, worked out near the origin."""
    if isinstance(contour, Curve):
        return contour.area
    return abs(replace(contour, points=contour.points - contour.points.mean(axis=0)).volume)


def _same(one: Curve | Mesh, other: Curve | Mesh) -> bool:
    return np.array_equal(one.points, other.points)


def _common_chart(drawn: Sequence[Drawing]) -> Any:
    contours: list[Any] = [each.contour for each in drawn]
    dims = contours[0].points.shape[1]
    points = np.concatenate([contour.points for contour in contours])
    reach = BEYOND * float(np.linalg.norm(np.ptp(points, axis=0)))
    blind = drawn
    for centre in _candidates(contours, dims):
        unit = contours[0].unit
        if dims == 3:
            chart = sphere_chart(centre, reach, unit, FREQUENCY)
        else:
            chart = star_chart(centre, reach, _plane(unit), RAYS)
        seen = [chart.sees(contour) for contour in contours]
        missed = [each for each, good in zip(drawn, seen, strict=True) if not good]
        if not missed:
            return chart
        blind = min(blind, missed, key=len)
    who = ", ".join(each.rater for each in blind)
    raise InputError(
        f"the drawings of case {drawn[0].case} have no point in common (rater {who} drew elsewhere "
        "than the others); check that all are on one grid, or leave the odd one out"
    )


def _candidates(contours: Sequence[Any], dims: int) -> Iterator[np.ndarray]:
    """Points that all regions may hold, each worked out only where those before it failed."""
    middles = [_middle(contour) for contour in contours]
    yield np.mean(middles, axis=0)
    yield from middles
    if dims == 2:
        yield from _in_common(contours)


def _middle(contour: Curve | Mesh) -> np.ndarray:
    if isinstance(contour, Curve):
        return contour.centroid
    a, b, c = np.moveaxis(contour.points[contour.faces], 1, 0)
    share = np.einsum("fi,fi->f", a, np.cross(b, c))
    return (share[:, None] * (a + b + c) / 4).sum(axis=0) / share.sum()


def _in_common(contours: Sequence[Curve]) -> list[np.ndarray]:
    """The middle of what all regions share, and a point inside of it; nothing where they do not."""
    import shapely
    from shapely.ops import polylabel

    shared: Any = shapely.intersection_all(
        [shapely.make_valid(shapely.Polygon(contour.points)) for contour in contours]
    )
    shared = as_polygons(shared)  # regions that touch also share lines and points
    if shared.area <= 0:
        return []
    largest = max(shared.geoms, key=lambda part: part.area)
    points = [shared.centroid, polylabel(largest, np.sqrt(largest.area) / 100)]
    return [np.array([point.x, point.y]) for point in points]


def _plane(unit: str) -> Plane:
    """The slice of contours that were given without one."""
    return Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=(2, 2), unit=unit)
