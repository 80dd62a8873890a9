"""How is a chart kept in a file, and how is its class found again? By a registered name.

Stars and spheres are kept as they always were, the others field by field: arrays as coordinates,
numbers and words as attributes, a plane and charts within a chart likewise, under longer names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.space.grid import Plane
from aistat_jax.space.offset import OffsetChart
from aistat_jax.space.offset_mesh import OffsetMeshChart
from aistat_jax.space.ring import RingChart
from aistat_jax.space.sphere import SphereChart
from aistat_jax.space.star import StarChart

if TYPE_CHECKING:
    import xarray

T = TypeVar("T")
Parts = tuple[dict[str, Any], dict[str, Any]]
"""Attributes of a dataset, and coordinates of it."""
# What attributes of fields begin with, and the name of a chart's kind.
PREFIX, KIND, CLASS = "chart_", "chart", "chart_class"


class Kept(NamedTuple):
    """One kind of chart: its class, and how it is written to a dataset and read from it."""

    made: Any
    write: Callable[[Any], Parts]
    read: Callable[[xarray.Dataset], Any]


CHARTS: dict[str, Kept] = {}
"""Kinds of charts that files may hold, by the name that stands for them there."""


def register_chart(name: str) -> Callable[[type[T]], type[T]]:
    """A decorator: posteriors on charts of this class can be saved, and loaded by this name.

    The class is a record whose fields are arrays, numbers, words, planes or registered charts. A
    program that loads such a file has to have imported the module that registers it.
    Raises InputError for a class that is no record, and for a name that a class called otherwise
    has; the same class may be defined again, or in another module.

    >>> from aistat_jax._record import record
    >>> @register_chart("half plane")
    ... @record
    ... class HalfPlane:
    ...     centre: np.ndarray
    """

    def registered(made: type[T]) -> type[T]:
        if not is_dataclass(made):
            raise InputError(
                f"{made.__name__} is no record; decorate it with `record` before it is registered"
            )
        known = CHARTS.get(name)
        if known is not None and known.made.__qualname__ != made.__qualname__:
            raise InputError(
                f"charts called {name!r} are {_class(known.made)}; choose another name"
            )

        def write(chart: Any) -> Parts:
            attrs, coordinates = _written(chart, PREFIX)
            return {KIND: name, CLASS: _class(made)} | attrs, coordinates

        CHARTS[name] = Kept(made, write, lambda data: _read(made, data, PREFIX))
        return made

    return registered


def written_chart(chart: Any) -> Parts:
    """A chart as attributes and coordinates; InputError for one of a kind not registered."""
    name = _name_of(type(chart))
    if name is None:
        raise InputError(
            f"a posterior on a {type(chart).__name__} cannot be kept in a file; register its class "
            'by a name: register_chart("name")'
        )
    return CHARTS[name].write(chart)


def read_chart(data: xarray.Dataset) -> Any:
    """The chart of a dataset; InputError for a kind that is not registered here."""
    attrs = data.attrs
    kind = str(attrs.get(KIND, "sphere" if "frequency" in attrs else "star"))
    if kind not in CHARTS:
        named = f" (class {attrs[CLASS]})" if CLASS in attrs else ""
        raise InputError(
            f"the file holds a posterior on a chart of the kind {kind!r}{named}, which is not "
            f"among {', '.join(CHARTS)}; import the module that defines its class, which registers "
            f"it by register_chart({kind!r}), and load the file again"
        )
    return CHARTS[kind].read(data)


def _class(made: Any) -> str:
    return f"{made.__module__}.{made.__qualname__}"


def _name_of(made: Any) -> str | None:
    return next((name for name, kept in CHARTS.items() if kept.made is made), None)


# ------------------------------------------------------------------------- field by field


def _written(chart: Any, prefix: str) -> Parts:
    attrs: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for field in fields(chart):
        name, value = f"{prefix}{field.name}", getattr(chart, field.name)
        if isinstance(value, Plane):
            attrs |= _plane_attributes(value, _plane_prefix(prefix, field.name))
        elif isinstance(value, np.ndarray):
            dims = tuple(f"{name}_{axis}" for axis in range(value.ndim))
            coordinates[name] = (dims, value)
        elif (kind := _name_of(type(value))) is not None:
            inner, arrays = _written(value, f"{name}_")
            attrs |= {f"{name}_kind": kind} | inner
            coordinates |= arrays
        elif isinstance(value, str | int | float | np.number) and not isinstance(value, bool):
            attrs[name] = value
        elif value is not None or field.default is not None:
            raise InputError(
                f"a {type(value).__name__}, as `{field.name}` of a {type(chart).__name__}, cannot "
                "be kept in a file; let it be an array, a number, a word, a plane or a registered "
                "chart"
            )
    return attrs, coordinates


def _read(made: Any, data: xarray.Dataset, prefix: str) -> Any:
    return made(**{field.name: _field(data, prefix, field) for field in fields(made)})


def _field(data: xarray.Dataset, prefix: str, field: Field) -> Any:
    """A field of a chart: an array, a chart, its plane, a number or word, None where it may be."""
    name, at = f"{prefix}{field.name}", _plane_prefix(prefix, field.name)
    if name in data.coords:
        return data[name].values
    if f"{name}_kind" in data.attrs:
        return _read(CHARTS[str(data.attrs[f"{name}_kind"])].made, data, f"{name}_")
    if f"{at}plane_origin" in data.attrs and name not in data.attrs:
        return _plane(data.attrs, at)
    if field.default is None and name not in data.attrs:
        return None
    value = data.attrs[name]
    return value.item() if isinstance(value, np.generic) else value


def _plane_prefix(prefix: str, field: str) -> str:
    """What stands before the attributes of a plane: nothing for the plane of the chart itself."""
    return "" if (prefix, field) == (PREFIX, "plane") else f"{prefix}{field}_"


def _plane(attrs: Mapping[str, Any], prefix: str = "") -> Plane:
    def of(name: str) -> Any:
        return attrs[f"{prefix}plane_{name}"]

    return Plane(
        np.array(of("origin"), dtype=float),
        np.array(of("spacing"), dtype=float),
        float(of("offset")),
        float(of("thickness")),
        np.array(of("frame"), dtype=float).reshape(3, 3),
        (int(of("shape")[0]), int(of("shape")[1])),
        str(attrs[f"{prefix}unit"]),
        int(of("index")),
    )


def _plane_attributes(plane: Plane, prefix: str = "") -> dict[str, Any]:
    found = {
        "unit": plane.unit,
        "plane_origin": plane.origin,
        "plane_spacing": plane.spacing,
        "plane_offset": plane.offset,
        "plane_thickness": plane.thickness,
        "plane_frame": plane.frame.ravel(),
        "plane_shape": np.array(plane.shape),
        "plane_index": plane.index,
    }
    return {f"{prefix}{name}": value for name, value in found.items()}


# ------------------------------------------------------------- those that the package has


def _write_star(chart: StarChart) -> Parts:
    found = {"centre": chart.centre, "radius_max": chart.radius_max, "unit": chart.unit}
    named = {"units": "rad", "long_name": "angle of the ray"}
    return found | _plane_attributes(chart.plane), {"ray": ("ray", chart.angles, named)}


def _read_star(data: xarray.Dataset) -> StarChart:
    attrs = data.attrs
    centre, reach = np.array(attrs["centre"], dtype=float), float(attrs["radius_max"])
    return StarChart(centre, data["ray"].values, reach, _plane(attrs))


def _write_sphere(chart: SphereChart) -> Parts:
    found = {"centre": chart.centre, "radius_max": chart.radius_max, "unit": chart.unit}
    directions = {"direction": (("ray", "axis"), chart.directions)}
    return found | {"frequency": chart.frequency}, directions


def _read_sphere(data: xarray.Dataset) -> SphereChart:
    attrs = data.attrs
    centre, reach = np.array(attrs["centre"], dtype=float), float(attrs["radius_max"])
    return SphereChart(centre, reach, str(attrs["unit"]), int(attrs["frequency"]))


def _own(name: str, made: Any) -> Kept:
    """One of the package's kinds, of which a file says no more than the name."""

    def write(chart: Any) -> Parts:
        attrs, coordinates = _written(chart, PREFIX)
        return {KIND: name} | attrs, coordinates

    return Kept(made, write, lambda data: _read(made, data, PREFIX))


CHARTS |= {
    "star": Kept(StarChart, _write_star, _read_star),
    "sphere": Kept(SphereChart, _write_sphere, _read_sphere),
    "offset": _own("offset", OffsetChart),
    "offset mesh": _own("offset mesh", OffsetMeshChart),
    "ring": _own("ring", RingChart),
}
