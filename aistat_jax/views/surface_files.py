"""What is kept of a surface: meshes with half-width and grade, and its sections as a table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aistat_jax._files import move_in, staged_folder, write_whole
from aistat_jax._typing import Float, Int
from aistat_jax.inference.posterior import Posterior
from aistat_jax.io.surfaces import VALUES, VertexValues, surface_ending, write_mesh
from aistat_jax.space.chart import Chart, interpolated
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.bands import Band, pointwise_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.sections import band_surfaces, check_surface, section_rows
from aistat_jax.views.style import ESTIMATE, GRADE_LOOKS

PathLike = str | os.PathLike[str]


def write_surface(
    path: PathLike, posterior: Posterior, band: Band | None = None, grade: Grade | None = None
) -> list[Path]:
    """Write the estimate of a surface as a mesh, with what is known at its vertices.

    The ending decides: `lesion.surf.gii` is GIFTI in patient RAS millimetres, with its values in
    `lesion.shape.gii`; `lesion.ply` is binary PLY, coloured by grade. Values are half_width (of the
    band, along the ray), half_width_pointwise (of the band of the same level that holds any one
    place, not the whole surface at once), p_wrong (the probability of being off by more than the
    tolerance), trusted_to (the smallest tolerance at which it is green, if any) and grade (0 green,
    1 amber, 2 red), as far as band and grade are given. With a band its edges are written beside
    it, as `lesion.lower.surf.gii` and `lesion.upper.surf.gii`.

    Returns the files, which appear together; those of the same names from an earlier time go.
    `read_surface` reads them. Raises InputError for a
    contour in a slice, another ending, and GIFTI without millimetres.
    """
    path, ending = Path(path), surface_ending(path)
    check_surface(posterior, band, grade)
    chart, stem = posterior.chart, path.name[: -len(ending)]
    mesh = chart.surface(np.asarray(posterior.estimate, dtype=float))
    values, colours = vertex_values(chart, mesh, band, grade), vertex_colours(chart, mesh, grade)
    if band is not None:
        there = pointwise_band(posterior, band.level)
        values["half_width_pointwise"] = _half_width(chart, mesh, there)
    with staged_folder(path.parent) as folder:
        written = write_mesh(folder / path.name, mesh, values, colours)
        if band is not None:
            edges = band_surfaces(posterior, band)
            for name, edge in (("lower", edges.lower), ("upper", edges.upper)):
                written += write_mesh(folder / f"{stem}.{name}{ending}", edge)
        names = [f"{stem}{part}{ending}" for part in (".lower", ".upper")]
        move_in(folder, path.parent, old=[*names, f"{stem}{VALUES}"])
    return [path.parent / each.name for each in written]


def vertex_values(
    chart: Chart, mesh: Mesh, band: Band | None, grade: Grade | None
) -> dict[str, VertexValues]:
    """Half-width, probability of being off and grade at the vertices of a mesh of a chart."""
    found = {}
    if band is not None:
        found["half_width"] = _half_width(chart, mesh, band)
    if grade is not None:
        off = interpolated(chart, grade.exceedance, mesh.points)
        meaning = f"probability of being off by more than {grade.tolerance:g} {grade.unit}"
        found["p_wrong"] = VertexValues(np.clip(off, 0.0, 1.0), meaning)
        if np.isfinite(grade.local_trusted_to).all():
            green = interpolated(chart, grade.local_trusted_to, mesh.points)
            meaning = f"{grade.unit}, the smallest tolerance at which it is green"
            found["trusted_to"] = VertexValues(green, meaning)
        local = grade.local[chart.nearest(mesh.points)].astype(float)
        found["grade"] = VertexValues(local, "0 green, 1 amber, 2 red")
    return found


def _half_width(chart: Chart, mesh: Mesh, band: Band) -> VertexValues:
    """The half-width of a band at the vertices of a mesh."""
    at = interpolated(chart, band.half_width, mesh.points)
    return VertexValues(at, f"{band.unit}, of the {100 * band.level:g}% {band.kind} band")


def vertex_colours(chart: Chart, mesh: Mesh, grade: Grade | None) -> Int[np.ndarray, "vertex 3"]:
    """The colour of the local grade at every vertex, 0 to 255; that of an estimate without one."""
    from matplotlib.colors import to_rgb

    if grade is None:
        colours: Float[np.ndarray, "vertex 3"] = np.tile(to_rgb(ESTIMATE), (len(mesh.points), 1))
    else:
        looks = np.array([to_rgb(look.colour) for look in GRADE_LOOKS])
        colours = looks[grade.local[chart.nearest(mesh.points)]]
    return np.rint(255 * colours).astype(int)


def sections_csv(
    posteriors: Sequence[Posterior],
    where: Image | Channel | Grid,
    bands: Sequence[Band | None] | None = None,
) -> str:
    """The sections of surfaces as text of a table; columns as `section_rows` says."""
    unit = posteriors[0].unit
    names = ["target", "slice", "vertex", *(f"{axis}_{unit}" for axis in "xyz")]
    names += ["kind", "loop", "channel"]
    given = [None] * len(posteriors) if bands is None else bands
    with io.StringIO(newline="") as stream:
        table = csv.DictWriter(stream, names)
        table.writeheader()
        for posterior, band in zip(posteriors, given, strict=True):
            table.writerows(section_rows(posterior, where, band))
        return stream.getvalue()


def write_sections(
    path: PathLike,
    posterior: Posterior,
    where: Image | Channel | Grid,
    band: Band | None = None,
) -> Path:
    """Write the closed curves of a surface and its band in the slices of a channel as a table.

    Columns: target, slice, vertex, x, y, z in the patient's RAS frame, as x_mm, kind ("estimate",
    "lower", "upper"), loop and channel. Raises InputError for a contour in a slice.
    """
    return write_whole(Path(path), sections_csv([posterior], where, [band]))
