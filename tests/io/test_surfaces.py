"""Does a surface come back from its file as it went in, and is anything else refused?"""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.gifti.gifti import GiftiImage

import aistat_jax as aj
from aistat_jax.io.surfaces import VertexValues, read_surface, write_mesh
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.sphere import sphere_chart

CHART = sphere_chart(np.array([-31.5, 12.25, 204.0]), 60.0)
MESH = CHART.surface(20.0 + 3.0 * CHART.directions[:, 0])
VALUES = {
    "half_width": VertexValues(np.linspace(0.5, 4.0, len(MESH.points)), "mm"),
    "p_wrong": VertexValues(np.linspace(0.0, 1.0, len(MESH.points)), "off by more than 2 mm"),
}


@pytest.mark.parametrize("name", ["lesion.surf.gii", "lesion.ply"])
def test_what_went_in_comes_out(tmp_path, name):
    write_mesh(tmp_path / name, MESH, VALUES)
    mesh, values = read_surface(tmp_path / name)
    assert np.abs(mesh.points - MESH.points).max() < 2e-5  # single precision at 200 mm
    assert np.array_equal(mesh.faces, MESH.faces)
    assert mesh.unit == "mm"
    assert set(values) == set(VALUES)
    for key, each in VALUES.items():
        assert np.allclose(values[key], each.values, atol=1e-6)
    moved = Mesh(MESH.points + 1.0, MESH.faces)  # negative control: a millimetre is not lost
    write_mesh(tmp_path / name, moved, VALUES)
    assert np.abs(read_surface(tmp_path / name)[0].points - MESH.points).max() > 0.9


def test_gifti_says_what_other_programs_need(tmp_path):
    surface, shape = write_mesh(tmp_path / "lesion.surf.gii", MESH, VALUES)
    points, faces = GiftiImage.from_filename(surface).darrays
    assert (points.coordsys.dataspace, points.coordsys.xformspace) == (1, 1)  # the scanner's
    assert np.array_equal(points.coordsys.xform, np.eye(4))
    assert points.data.dtype == np.float32
    assert faces.data.dtype == np.int32
    corners = points.data[faces.data].astype(float)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("fi,fi->f", normal, corners.mean(axis=1) - CHART.centre) > 0).all()
    names = [array.meta["Name"] for array in GiftiImage.from_filename(shape).darrays]
    assert names == ["half_width: mm", "p_wrong: off by more than 2 mm"]


def test_ply_keeps_colours_and_pixels(tmp_path):
    colours = np.tile([255, 176, 0], (len(MESH.points), 1))
    in_px = Mesh(MESH.points, MESH.faces, "px")
    (path,) = write_mesh(tmp_path / "lesion.ply", in_px, VALUES, colours)
    head = path.read_bytes().split(b"end_header")[0].decode()
    kinds = [line.split()[1:] for line in head.splitlines() if line.startswith("property")]
    assert [" ".join(kind) for kind in kinds] == [
        "float x", "float y", "float z", "float half_width", "float p_wrong",
        "uchar red", "uchar green", "uchar blue", "list uchar int vertex_indices",
    ]  # fmt: skip
    mesh, values = read_surface(path)
    assert mesh.unit == "px"
    assert set(values) == set(VALUES)  # colours are no values
    with pytest.raises(aj.InputError, match="GIFTI is in patient millimetres"):
        write_mesh(tmp_path / "lesion.surf.gii", in_px)


TETRAHEDRON = np.array([[0.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]])
OUTWARD = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def ply_text(faces: np.ndarray, points: np.ndarray = TETRAHEDRON) -> str:
    """A tetrahedron as other programs write it: text, with normals and a quality."""
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    head += [f"property double {name}" for name in ("x", "y", "z", "quality")]
    head += [f"element face {len(faces)}", "property list uchar uint vertex_index", "end_header"]
    rows = [" ".join(f"{value:g}" for value in (*point, 0.5)) for point in points]
    rows += [f"{len(face)} " + " ".join(str(at) for at in face) for face in faces]
    return "\n".join([*head, *rows, ""])


@pytest.mark.parametrize("turned", [False, True])
def test_text_is_read_and_turned_outwards(tmp_path, turned):
    path = tmp_path / "other.ply"
    path.write_text(ply_text(OUTWARD[:, ::-1] if turned else OUTWARD))
    mesh, values = read_surface(path)
    assert mesh.volume == pytest.approx(4.5)
    assert np.array_equal(values["quality"], np.full(4, 0.5))


def test_the_other_byte_order_is_read(tmp_path):
    (path,) = write_mesh(tmp_path / "lesion.ply", MESH)
    head, body = path.read_bytes().split(b"end_header\n")
    floats = 12 * len(MESH.points)
    faces = np.frombuffer(body[floats:], np.dtype([("n", "u1"), ("at", "<i4", 3)]))
    swapped = np.frombuffer(body[:floats], "<f4").astype(">f4").tobytes()
    swapped += faces.astype(np.dtype([("n", "u1"), ("at", ">i4", 3)])).tobytes()
    path.write_bytes(head.replace(b"little", b"big") + b"end_header\n" + swapped)
    assert np.allclose(read_surface(path)[0].points, MESH.points, atol=2e-5)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (ply_text(OUTWARD[:3]), "has a hole"),
        (ply_text(np.concatenate([OUTWARD, [[0, 1, 2]]])), "more than two triangles"),
        (ply_text(np.concatenate([OUTWARD[:3], OUTWARD[3:, ::-1]])), "turned the other way"),
        (ply_text(np.array([[0, 1, 2, 3]])), "no triangle"),
        (ply_text(OUTWARD + 1), "vertices that are not there"),
        (ply_text(OUTWARD, TETRAHEDRON * np.nan), "finite"),
        (ply_text(OUTWARD).replace("property double z\n", ""), "not a PLY file"),
        (ply_text(OUTWARD)[:200], "not a PLY file"),
        ("solid stl", "not a PLY file"),
        ("", "not a PLY file"),
    ],
)
def test_what_is_no_closed_surface_is_refused(tmp_path, content, why):
    path = tmp_path / "bad.ply"
    path.write_text(content)
    with pytest.raises(aj.InputError, match=f"bad.ply.*{why}"):
        read_surface(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(aj.InputError, match=r"must end with one of \.surf\.gii"):
        write_mesh(tmp_path / "lesion.stl", MESH)
    with pytest.raises(aj.InputError, match="no such file"):
        read_surface(tmp_path / "missing.ply")
    path = tmp_path / "bad.surf.gii"
    path.write_text("<GIFTI><not")
    with pytest.raises(aj.InputError, match="not a readable GIFTI file"):
        read_surface(path)
    write_mesh(path, MESH)
    text = path.read_text()
    path.write_text(text.replace("NIFTI_XFORM_SCANNER_ANAT", "NIFTI_XFORM_MNI_152"))
    with pytest.raises(aj.InputError, match="another frame"):
        read_surface(path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(aj.InputError, match=r"bad\.surf\.gii"):
        read_surface(path)


def test_values_of_another_surface_are_refused(tmp_path):
    write_mesh(tmp_path / "lesion.surf.gii", MESH, VALUES)
    small = sphere_chart(np.zeros(3), 30.0, frequency=2)
    write_mesh(tmp_path / "lesion.surf.gii", small.surface(np.full(42, 9.0)))
    with pytest.raises(aj.InputError, match="one value for each vertex"):
        read_surface(tmp_path / "lesion.surf.gii")
