"""How does a surface in space go into a file with what is known at its vertices, and come back?

GIFTI (`.surf.gii`, with the values beside it in a `.shape.gii`) is in patient RAS millimetres, as
NIfTI is. PLY (`.ply`) has no frame of its own: what is written says its unit in a comment.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers.expat import ExpatError

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole
from aistat_jax._typing import Float, Int
from aistat_jax.space.mesh import Mesh

PathLike = str | os.PathLike[str]
GIFTI, VALUES, PLY = ".surf.gii", ".shape.gii", ".ply"
_ENDINGS = f"{GIFTI} (GIFTI, in patient millimetres) and {PLY}"
_INTO_PATIENT = (0, 1)  # GIFTI's codes of a frame that is not said, and of the scanner's

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


class VertexValues(NamedTuple):
    """One value a vertex (vertex,), and what it means, with its unit."""

    values: Float[np.ndarray, " vertex"]
    meaning: str


def surface_ending(path: PathLike) -> str:
    """The ending that decides the format. Raises InputError for any other."""
    name = Path(path).name.lower()
    for ending in (GIFTI, PLY):
        if name.endswith(ending) and name != ending:
            return ending
    raise InputError(f"{path}: a surface's file name must end with one of {_ENDINGS}")


def write_mesh(
    path: PathLike,
    mesh: Mesh,
    values: Mapping[str, VertexValues] | None = None,
    colours: Int[np.ndarray, "vertex 3"] | None = None,
) -> list[Path]:
    """Write one closed surface; returns the files, each of which is whole or not there.

    Values have a name each; colours (vertex, 3) are 0 to 255 and are kept by PLY only.
    Raises InputError for another ending, and for GIFTI without millimetres.
    """
    path, values = Path(path), dict(values or {})
    if surface_ending(path) == PLY:
        return [write_whole(path, _ply_of(mesh, values, colours))]
    if mesh.unit != "mm":
        raise InputError(
            f"{path}: GIFTI is in patient millimetres and this surface is in {mesh.unit}; write a "
            f"{PLY} file"
        )
    written = [write_whole(path, _gifti_of(mesh))]
    if values:
        beside = path.with_name(path.name[: -len(GIFTI)] + VALUES)
        written.append(write_whole(beside, _gifti_values(values)))
    return written


def read_surface(path: PathLike) -> tuple[Mesh, dict[str, Float[np.ndarray, " vertex"]]]:
    """A closed surface, in patient coordinates, and the values at its vertices by name.

    GIFTI values are those of the `.shape.gii` beside the surface, where there is one. Triangles
    that are all clockwise from outside are turned.
    Raises InputError naming the file for what is no closed surface, or in no patient frame.
    """
    path = Path(path)
    ending = surface_ending(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    points, faces, values, unit = _read_ply(path) if ending == PLY else _read_gifti(path)
    if len(points) == 0 or len(faces) == 0 or not np.isfinite(points).all():
        raise InputError(f"{path}: a surface needs points of finite coordinates, and triangles")
    if faces.min() < 0 or faces.max() >= len(points):
        raise InputError(f"{path}: triangles name vertices that are not there")
    mesh = Mesh(points, faces, unit)
    try:
        mesh.check()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    sides = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    if len(np.unique(sides, axis=0)) < len(sides):
        raise InputError(f"{path}: some triangles are turned the other way than their neighbours")
    return (mesh if mesh.volume > 0 else Mesh(points, faces[:, ::-1], unit)), values


# --------------------------------------------------------------------------------------- GIFTI


def _gifti_of(mesh: Mesh) -> bytes:
    from nibabel.gifti.gifti import GiftiCoordSystem, GiftiDataArray, GiftiImage

    scanner = GiftiCoordSystem(dataspace=1, xformspace=1, xform=np.eye(4))
    points = GiftiDataArray(
        np.asarray(mesh.points, dtype=np.float32), intent="NIFTI_INTENT_POINTSET",
        datatype="NIFTI_TYPE_FLOAT32", coordsys=scanner,
        meta={"GeometricType": "Anatomical", "Unit": "mm"},
    )  # fmt: skip
    faces = GiftiDataArray(
        np.asarray(mesh.faces, dtype=np.int32), intent="NIFTI_INTENT_TRIANGLE",
        datatype="NIFTI_TYPE_INT32", meta={"TopologicalType": "Closed"},
    )  # fmt: skip
    return GiftiImage(darrays=[points, faces]).to_bytes()


def _gifti_values(values: Mapping[str, VertexValues]) -> bytes:
    from nibabel.gifti.gifti import GiftiDataArray, GiftiImage

    arrays = [
        GiftiDataArray(
            np.asarray(each.values, dtype=np.float32), intent="NIFTI_INTENT_SHAPE",
            datatype="NIFTI_TYPE_FLOAT32", meta={"Name": f"{name}: {each.meaning}"},
        )
        for name, each in values.items()
    ]  # fmt: skip
    return GiftiImage(darrays=arrays).to_bytes()


def _loaded_gifti(path: Path) -> Any:
    from nibabel.gifti.gifti import GiftiImage

    try:
        return GiftiImage.from_bytes(path.read_bytes())
    except (
        ExpatError, ValueError, LookupError, OSError, EOFError, AttributeError, TypeError,
        AssertionError, zlib.error,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: not a readable GIFTI file ({error})") from error


def _read_gifti(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], str]:
    stored = _loaded_gifti(path)
    points = stored.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    faces = stored.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if len(points) != 1 or len(faces) != 1:
        raise InputError(f"{path}: a surface has one set of points and one of triangles")
    frame, place = points[0].coordsys, np.asarray(points[0].data, dtype=float)
    if frame is not None and frame.dataspace not in _INTO_PATIENT:
        if frame.xformspace != 1:
            raise InputError(
                f"{path}: its points are in another frame (code {frame.dataspace}) than the "
                "scanner's; write it in scanner coordinates"
            )
        place = place @ frame.xform[:3, :3].T + frame.xform[:3, 3]
    beside, values = path.with_name(path.name[: -len(GIFTI)] + VALUES), {}
    for array in _loaded_gifti(beside).darrays if beside.is_file() else ():
        name = str(array.meta.get("Name", f"value {len(values)}")).split(":")[0]
        values[name] = np.asarray(array.data, dtype=float)
        if values[name].shape != (len(place),):
            raise InputError(f"{beside}: {name} does not have one value for each vertex of {path}")
    return place, np.asarray(faces[0].data, dtype=int), values, "mm"


# ----------------------------------------------------------------------------------------- PLY


def _ply_of(mesh: Mesh, values: Mapping[str, VertexValues], colours: np.ndarray | None) -> bytes:
    frame = "patient RAS: x to the Right, y to the Anterior, z to the Superior"
    told = [f"unit {mesh.unit}", *([f"frame {frame}"] if mesh.unit == "mm" else [])]
    told += [f"{name}: {each.meaning}" for name, each in values.items()]
    floats = ["x", "y", "z", *values]
    bytes_ = [] if colours is None else ["red", "green", "blue"]
    head = [
        "ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in told),
        f"element vertex {len(mesh.points)}", *(f"property float {name}" for name in floats),
        *(f"property uchar {name}" for name in bytes_), f"element face {len(mesh.faces)}",
        "property list uchar int vertex_indices", "end_header", "",
    ]  # fmt: skip
    vertices = np.empty(
        len(mesh.points), dtype=[*((n, "<f4") for n in floats), *((n, "u1") for n in bytes_)]
    )
    columns = [*mesh.points.T, *(each.values for each in values.values())]
    columns += [] if colours is None else list(colours.T)
    for name, column in zip([*floats, *bytes_], columns, strict=True):
        vertices[name] = column
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("at", "<i4", 3)])
    faces["count"], faces["at"] = 3, mesh.faces
    return "\n".join(head).encode("ascii", "replace") + vertices.tobytes() + faces.tobytes()


class _Element(NamedTuple):
    """One kind of thing in a PLY file: how many, and (name, type, type of a list's length)."""

    name: str
    count: int
    properties: list[tuple[str, str, str | None]]


def _read_ply(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], str]:
    data = path.read_bytes()
    try:
        order, unit, elements, start = _ply_header(data)
        read = _ply_words if order == "" else _ply_bytes
        found = read(data[start:], elements, order)
        vertices = found["vertex"]
        points = np.stack([vertices.pop(axis) for axis in "xyz"], axis=-1).astype(float)
        faces = next(
            found["face"][n] for n in ("vertex_indices", "vertex_index") if n in found["face"]
        )
    except (KeyError, ValueError, IndexError, StopIteration) as error:
        raise InputError(
            f"{path}: not a PLY file of triangles that can be read ({error})"
        ) from error
    colours = ("red", "green", "blue", "alpha")
    values = {n: v.astype(float) for n, v in vertices.items() if n not in colours}
    return points, faces.astype(int), values, unit


def _ply_header(data: bytes) -> tuple[str, str, list[_Element], int]:
    """Byte order ("" for text), unit, elements, and where the content starts."""
    mark = b"end_header"
    if not data.startswith(b"ply") or mark not in data:
        raise ValueError("it does not begin as one")
    end = data.index(mark)
    start = data.index(b"\n", end) + 1
    order, unit, elements = "", "mm", []
    for line in data[:end].decode("ascii", "replace").splitlines():
        match line.split():
            case ["format", kind, *_]:
                order = _ORDERS[kind]
            case ["comment", "unit", ("mm" | "px") as said]:
                unit = said
            case ["element", name, count]:
                elements.append(_Element(name, int(count), []))
            case ["property", "list", length, kind, name]:
                elements[-1].properties.append((name, _TYPES[kind], _TYPES[length]))
            case ["property", kind, name]:
                elements[-1].properties.append((name, _TYPES[kind], None))
    return order, unit, elements, start


def _ply_bytes(
    data: bytes, elements: list[_Element], order: str
) -> dict[str, dict[str, np.ndarray]]:
    found, at = {}, 0
    for name, count, properties in elements:
        fields: list[Any] = []
        for each, kind, length in properties:
            fields += [(f"{each} length", order + length)] if length else []
            fields.append((each, order + kind, (3,)) if length else (each, order + kind))
        kind = np.dtype(fields)
        rows = np.frombuffer(data, kind, count, at)
        at += count * kind.itemsize
        if any((rows[n] != 3).any() for n in kind.names or () if n.endswith(" length")):
            raise ValueError("a face is no triangle")
        found[name] = {each: rows[each] for each, _, _ in properties}
    return found


def _ply_words(
    data: bytes, elements: list[_Element], _order: str
) -> dict[str, dict[str, np.ndarray]]:
    lines, found = data.decode("ascii").split("\n"), {}
    for name, count, properties in elements:
        rows = np.array([line.split() for line in lines[:count]], dtype=float)
        lines, at, found[name] = lines[count:], 0, {}
        for each, _, length in properties:
            if length and (rows[:, at] != 3).any():
                raise ValueError("a face is no triangle")
            width = 3 if length else 1
            at += 1 if length else 0
            column = rows[:, at : at + width]
            found[name][each] = column if length else column[:, 0]
            at += width
    return found
