"""Do files come in and go back where they belong, and are bad ones refused with a remedy?"""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture
from scipy.spatial.transform import Rotation

from aistat_jax._errors import InputError, InputWarning
from aistat_jax.io.nifti import read_as_drawn, read_channel, read_image, read_mask, write_nifti
from aistat_jax.space.curve import contours_from_mask

SHAPE = (24, 22, 6)
CENTRE = np.array([-3.0, 6.0, 40.0])
RADIUS = 14.0


def affine_of(degrees: float = 0.0) -> np.ndarray:
    affine = np.eye(4)
    turn = Rotation.from_euler("zyx", [degrees, degrees / 2, -degrees], degrees=True).as_matrix()
    affine[:3, :3] = turn * np.array([2.0, 2.5, 3.0])
    middle = (np.array(SHAPE) - 1) / 2
    affine[:3, 3] = CENTRE - affine[:3, :3] @ middle
    return affine


def ball(affine: np.ndarray, shape=SHAPE) -> np.ndarray:
    """A bright ball about CENTRE, brighter to the Left so that a mirrored one is noticed."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    offset = index @ affine[:3, :3].T + affine[:3, 3] - CENTRE
    return (np.linalg.norm(offset, axis=-1) < RADIUS) * 4.0 - 0.01 * offset[..., 0]


def save(path: Path, values: np.ndarray, affine: np.ndarray | None, codes=("scanner", "scanner")):
    file = nib.Nifti1Image(values, affine)
    if affine is not None:
        file.set_sform(affine, code=codes[0])
        file.set_qform(affine, code=codes[1])
    nib.save(file, path)
    return path


def as_axcodes(values: np.ndarray, affine: np.ndarray, codes: str):
    file = nib.Nifti1Image(values, affine)
    start = nib.io_orientation(affine)
    turned = file.as_reoriented(
        nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    )
    return np.asarray(turned.dataobj), turned.affine


@pytest.fixture
def pet(tmp_path) -> Path:
    return save(tmp_path / "pet.nii.gz", ball(affine_of()), affine_of())


ORIENTATIONS = ["RAS", "LPS", "LAS", "SPL", "PIR", "ASR"]


@pytest.mark.parametrize("degrees", [0.0, 13.0])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_is_the_same_image_and_goes_back_as_it_came(tmp_path, codes, degrees):
    plain = save(tmp_path / "plain.nii.gz", ball(affine_of(degrees)), affine_of(degrees))
    values, affine = as_axcodes(ball(affine_of(degrees)), affine_of(degrees), codes)
    turned = save(tmp_path / "turned.nii.gz", values, affine, codes=("aligned", "scanner"))
    expected, channel = read_channel(plain), read_channel(turned)
    np.testing.assert_array_equal(channel.values, expected.values)
    np.testing.assert_allclose(channel.grid.affine, expected.grid.affine, atol=1e-4)

    inside = channel.values[:, :, 3] > 2
    ours, theirs = (contours_from_mask(inside, c.slice(3).plane)[0] for c in (channel, expected))
    np.testing.assert_allclose(ours.points, theirs.points, atol=1e-4)

    back = nib.load(write_nifti(tmp_path / "back.nii.gz", channel.values, channel))
    stored = nib.load(turned)
    np.testing.assert_allclose(back.affine, stored.affine, atol=1e-4)
    assert nib.aff2axcodes(back.affine) == tuple(codes)
    assert [int(back.header[c]) for c in ("sform_code", "qform_code")] == [2, 1]
    np.testing.assert_allclose(back.get_fdata(), stored.get_fdata(), atol=1e-6)
    np.testing.assert_allclose(back.header.get_zooms(), stored.header.get_zooms(), rtol=1e-6)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_contour_lies_where_the_ball_is(tmp_path, codes):
    values, affine = as_axcodes(ball(affine_of()), affine_of(), codes)
    channel = read_channel(save(tmp_path / "ball.nii", values, affine))
    k = int(np.rint(channel.grid.to_index(CENTRE)[2]))
    plane = channel.slice(k).plane
    (curve,) = contours_from_mask(channel.values[:, :, k] > 2, plane)
    height = plane.offset - CENTRE[2]
    np.testing.assert_allclose(plane.to_world(curve.centroid)[:2], CENTRE[:2], atol=0.6)
    assert curve.area == pytest.approx(np.pi * (RADIUS**2 - height**2), rel=0.05)
    # negative control: one stored axis mirrored in the header moves the contour
    here = plane.to_world(curve.centroid)
    wrong = affine.copy()
    wrong[:3, 0] *= -1
    moved = read_channel(save(tmp_path / "wrong.nii", values, wrong))
    k = moved.values.sum(axis=(0, 1)).argmax()
    (other,) = contours_from_mask(moved.values[:, :, k] > 2, moved.slice(k).plane)
    plane = moved.slice(k).plane
    assert np.linalg.norm(plane.to_world(other.centroid) - here) > 10


def test_slices_run_towards_superior_and_the_rest_keep_sides(tmp_path):
    values, affine = as_axcodes(ball(affine_of()), affine_of(), "LPS")
    channel = read_channel(save(tmp_path / "lps.nii", values, affine), "PT")
    assert channel.slice(5).plane.offset > channel.slice(0).plane.offset
    assert channel.values[2, 11, 3] > channel.values[-3, 11, 3]  # brighter to the Left
    assert (channel.quantity, channel.source) == ("SUV", str(tmp_path / "lps.nii"))


def test_two_channels_keep_their_own_grids(tmp_path, pet, rng):
    ct_affine = np.diag([1.0, 1.0, 3.0, 1.0])
    ct_affine[:3, 3] = affine_of()[:3, 3]
    ct = save(tmp_path / "ct.nii.gz", rng.normal(size=(40, 40, 6)).astype(np.float32), ct_affine)
    image = read_image(PT=pet, CT=ct)
    assert image.names == ("PT", "CT")
    assert [c.quantity for c in image.channels.values()] == ["SUV", "HU"]
    assert image["CT"].slice_at(image["PT"].slice(2).plane).values.shape == (40, 40)


def test_scaled_whole_numbers_and_single_slices_are_read(tmp_path, rng):
    file = nib.Nifti1Image(rng.integers(-900, 900, size=(8, 9, 1, 1), dtype=np.int16), affine_of())
    file.header.set_slope_inter(0.5, -3.0)
    nib.save(file, tmp_path / "ct.nii")
    channel = read_channel(tmp_path / "ct.nii", "CT")
    assert channel.grid.shape == (8, 9, 1)
    stored = nib.load(tmp_path / "ct.nii")
    np.testing.assert_allclose(channel.values[..., None], stored.get_fdata())
    assert nib.load(write_nifti(tmp_path / "b.nii", channel.values, channel)).shape == stored.shape


def test_the_length_unit_of_the_header_is_honoured(tmp_path):
    metres = affine_of()
    metres[:3] /= 1000
    file = nib.Nifti1Image(ball(affine_of()), metres)
    file.header.set_xyzt_units("meter")
    nib.save(file, tmp_path / "m.nii")
    channel = read_channel(tmp_path / "m.nii")
    np.testing.assert_allclose(channel.grid.spacing, [2, 2.5, 3], rtol=1e-5)
    back = nib.load(write_nifti(tmp_path / "b.nii", channel.values, channel))
    np.testing.assert_allclose(back.affine, metres, atol=1e-6)
    assert back.header.get_xyzt_units()[0] == "meter"


def test_a_qform_alone_is_enough(tmp_path):
    file = nib.Nifti1Image(ball(affine_of(20)), None)
    file.set_sform(None, code=0)
    file.set_qform(affine_of(20), code=1)
    nib.save(file, tmp_path / "q.nii")
    channel = read_channel(tmp_path / "q.nii")
    np.testing.assert_allclose(channel.grid.affine, affine_of(20), atol=1e-4)
    back = nib.load(write_nifti(tmp_path / "b.nii", channel.values, channel))
    np.testing.assert_allclose(back.affine, affine_of(20), atol=1e-4)


# ---- refusals: one sentence, the file's name, a remedy


def refuse(path: Path, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_image(PT=path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert ";" in text or "must" in text


def test_missing_files_and_folders_are_refused(tmp_path):
    refuse(tmp_path / "absent.nii.gz", "no such file; check the path")
    refuse(tmp_path, "this is a folder; pass an image file")
    with pytest.raises(InputError, match="no image was given"):
        read_image()


@pytest.mark.parametrize("name", ["text.nii", "text.nii.gz", "scan.dcm", "scan"])
def test_a_file_that_is_not_nifti_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an image at all" * 40)
    named = "not a readable NIfTI file; pass .nii or .nii.gz"
    refuse(tmp_path / name, named if ".nii" in name else "files of this kind are not read; read")
    (tmp_path / name).write_bytes(b"")
    refuse(tmp_path / name, "this is an empty file, which is not read")


def test_another_image_format_is_refused(tmp_path):
    nib.save(nib.MGHImage(np.ones((3, 3, 3), np.float32), np.eye(4)), tmp_path / "scan.mgz")
    refuse(tmp_path / "scan.mgz", "not a NIfTI file; convert it")


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, rng, part):
    noise = rng.normal(size=(20, 20, 20))
    for name in ("cut.nii.gz", "cut.nii"):
        whole = save(tmp_path / name, noise, affine_of()).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(part * len(whole))])
        refuse(tmp_path / name, "cut short or damaged|not a readable NIfTI")


def test_a_damaged_file_is_refused(tmp_path, rng):
    whole = save(tmp_path / "a.nii.gz", rng.normal(size=(20, 20, 20)), affine_of()).read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    (tmp_path / "a.nii.gz").write_bytes(bytes(broken))
    refuse(tmp_path / "a.nii.gz", "cut short or damaged|not a readable NIfTI")


def test_a_time_series_is_refused(tmp_path, rng):
    path = save(tmp_path / "dynamic.nii.gz", rng.normal(size=(6, 6, 4, 3)), affine_of())
    refuse(path, "two or three dimensions; extract a single volume first")


def test_a_header_without_affine_is_refused(tmp_path, pet):
    file = nib.load(pet)
    file.header["sform_code"] = file.header["qform_code"] = 0
    raw = bytearray(gzip.decompress(pet.read_bytes()))
    raw[252:256] = bytes(4)  # qform_code, sform_code
    (tmp_path / "none.nii").write_bytes(bytes(raw))
    refuse(tmp_path / "none.nii", "no affine .* set the sform from the original images")


def test_zero_spacing_is_refused(tmp_path, pet):
    flat = affine_of()
    flat[:3, 2] = 0
    raw = bytearray(gzip.decompress(pet.read_bytes()))
    raw[280:328] = np.asarray(flat[:3], "<f4").tobytes()  # srow_x, srow_y, srow_z
    (tmp_path / "flat.nii").write_bytes(bytes(raw))
    refuse(tmp_path / "flat.nii", r"spacing is \(2, 2.5, 0\) mm and must be positive")
    raw[254:256] = bytes(2)  # no sform: the qform takes its spacing from pixdim
    raw[88:92] = bytes(4)
    (tmp_path / "flat.nii").write_bytes(bytes(raw))
    refuse(tmp_path / "flat.nii", "spacing in the header is .* must be positive")


def test_a_sheared_affine_is_refused(tmp_path):
    sheared = affine_of()
    sheared[0, 1] += 0.3
    refuse(save(tmp_path / "s.nii", ball(affine_of()), sheared, ("scanner", "unknown")), "sheared")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(tmp_path, value):
    values = ball(affine_of())
    values[3, 4, 5] = value
    refuse(save(tmp_path / "n.nii.gz", values, affine_of()), "1 voxels are NaN or infinite")


def test_a_constant_image_is_refused(tmp_path):
    path = save(tmp_path / "c.nii.gz", np.full(SHAPE, 7.0), affine_of())
    refuse(path, "every voxel is 7, so there is nothing to contour")


def test_colours_are_refused(tmp_path):
    rgb = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refuse(save(tmp_path / "rgb.nii", rgb, affine_of()), "not real numbers")


# ---- masks


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_a_mask_stored_in_another_order_is_the_same_mask(tmp_path, pet, codes):
    channel = read_channel(pet)
    inside = (ball(affine_of()) > 2).astype(np.uint8)
    values, affine = as_axcodes(inside, affine_of(), codes)
    mask = read_mask(save(tmp_path / "mask.nii.gz", values, affine), channel)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", channel.grid), mask)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, inside)
    back = write_nifti(tmp_path / "out.nii.gz", mask, channel)
    assert nib.load(back).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_mask(back, channel), mask)


def test_a_mask_on_another_grid_is_refused(tmp_path, pet):
    channel = read_channel(pet)
    inside = (ball(affine_of()) > 2).astype(np.uint8)
    shifted, scaled = affine_of(), affine_of()
    shifted[0, 3] += 1.0
    scaled[:, 0] *= 1.5
    cut = inside[:-1]
    for values, affine in ((inside, shifted), (inside, scaled), (cut, affine_of())):
        path = save(tmp_path / "mask.nii.gz", values, affine)
        with pytest.raises(InputError, match="does not match image grid .* resample the mask"):
            read_mask(path, channel)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros(SHAPE), "the mask is empty"),
        (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3 * 1.0, "holds the values 0, 1, 2"),
        (ball(affine_of()), "holds the values"),
        ((ball(affine_of()) > 2) * -1.0, "holds the values -1, 0"),
        (np.full(SHAPE, np.nan), "NaN or infinite"),
    ],
)
def test_unusable_masks_are_refused(tmp_path, pet, values, sentence):
    path = save(tmp_path / "mask.nii.gz", values, affine_of())
    with pytest.raises(InputError, match=f"mask.nii.gz: .*{sentence}"):
        read_mask(path, read_channel(pet))


# ---- writing


def test_writing_is_refused_rather_than_guessed(tmp_path, pet, rng):
    channel = read_channel(pet)
    with pytest.raises(InputError, match="do not match the image's"):
        write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2)), channel)
    with pytest.raises(InputError, match="ends in .nii or .nii.gz"):
        write_nifti(tmp_path / "a.nrrd", channel.values, channel)
    with pytest.raises(InputError, match="0 to 255"):
        write_nifti(tmp_path / "a.nii", np.full(SHAPE, 300), channel)
    np.savez(tmp_path / "px.npz", rng.normal(size=(4, 4)))
    pixels = read_channel(tmp_path / "px.npz")
    with pytest.raises(InputError, match="has no spacing"):
        write_nifti(tmp_path / "a.nii", pixels.values, pixels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pet.nii.gz", "px.npz"]


def test_a_write_cut_short_leaves_the_old_file(tmp_path, pet, monkeypatch):
    channel, before = read_channel(pet), pet.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_nifti(pet, channel.values, channel)
    assert pet.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["pet.nii.gz"]


# ---- pictures and arrays, in pixels


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_a_picture_is_read_upright(tmp_path, mode):
    rows = np.zeros((6, 9), dtype=np.uint16 if mode == "I;16" else np.uint8)
    rows[0, 2:5] = 200  # a bar at the top left
    picture = Picture.fromarray(rows)
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "p.png")
    channel = read_channel(tmp_path / "p.png")
    assert (channel.unit, channel.grid.shape) == ("px", (9, 6, 1))
    np.testing.assert_array_equal(np.argwhere(channel.values[:, :, 0] == 200)[:, 1], 5)
    np.testing.assert_array_equal(np.argwhere(channel.values[:, :, 0] == 200)[:, 0], [2, 3, 4])
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png", channel), channel.values > 0)


def test_an_array_is_read_as_it_is(tmp_path, rng):
    values = rng.normal(size=(5, 6, 7))
    np.savez_compressed(tmp_path / "a.npz", ct=values)
    channel = read_channel(tmp_path / "a.npz", "CT")
    assert (channel.unit, channel.quantity) == ("px", "HU")
    np.testing.assert_array_equal(channel.values, values)


def test_unusable_pictures_and_arrays_are_refused(tmp_path, pet, rng):
    colours = rng.integers(0, 255, size=(5, 5, 3), dtype=np.uint8)
    Picture.fromarray(colours).save(tmp_path / "c.png")
    refuse(tmp_path / "c.png", "colour picture; save it as greyscale")
    np.savez(tmp_path / "two.npz", a=np.eye(3), b=np.eye(3))
    refuse(tmp_path / "two.npz", "holds 2 arrays")
    np.savez(tmp_path / "object.npz", a=np.array([{}], dtype=object))
    refuse(tmp_path / "object.npz", "not a readable .npz of numbers")
    for name in ("x.png", "x.npz"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        refuse(tmp_path / name, "not a readable")
    np.savez(tmp_path / "px.npz", np.eye(4))
    with pytest.raises(InputError, match="PT in mm, CT in px"):
        read_image(PT=pet, CT=tmp_path / "px.npz")
    with pytest.raises(InputError, match="does not match image grid"):
        read_mask(tmp_path / "px.npz", read_channel(pet))


# ---- real images


# ---- content against name, two transforms


def test_what_is_packed_is_told_by_content(tmp_path, pet):
    """A name that says gzip where there is none, and the other way round, with both headers."""
    expected = read_channel(pet)
    for image in (nib.load(pet), nib.Nifti2Image(ball(affine_of()), affine_of())):
        raw = image.to_bytes()
        for name, data in (("bare.nii.gz", raw), ("packed.nii", gzip.compress(raw))):
            path = tmp_path / name
            path.write_bytes(data)
            channel = read_channel(path)
            np.testing.assert_array_equal(channel.values, expected.values)
            np.testing.assert_allclose(channel.grid.affine, expected.grid.affine, atol=1e-4)
            assert read_mask_of(path, expected).any()
            path.write_bytes(data[: len(data) // 2])  # negative control
            sentence = refusal(read_channel, path)
            assert "damaged" in sentence or "not a readable" in sentence


def refusal(read, path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read(path)
    return str(refused.value)


def read_mask_of(path: Path, like) -> np.ndarray:
    values, _ = read_as_drawn(path)
    return values > values.mean()


KINDS = {
    "slice.tif": (b"II*\0", "this is a TIFF picture"),
    "a.npy": (b"\x93NUMPY\x01\0", "this is a NumPy array (.npy)"),
    "scan.nii": (bytes(128) + b"DICM", "this is a DICOM file; convert its series with dcm2niix"),
    "scan.nii.gz": (b"\x89PNG\r\n\x1a\n", "this is a PNG picture"),
    "empty.nii": (b"", "this is an empty file"),
    "words.nii": (b"hello", "this is not a readable NIfTI file"),
    "words.xyz": (b"hello", "files of this kind are not read"),
    "photo.png": (b"\xff\xd8\xff\xe0", "this is a JPEG picture"),
    "odd.png": (b"hello", "this is not a readable PNG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_read_is_named(tmp_path, name):
    data, words = KINDS[name]
    path = tmp_path / name
    path.write_bytes(data + bytes(100) if data and data != b"hello" else data)
    sentence = refusal(read_channel, path)
    assert f"{path}: {words}" in sentence
    if "which is not read" in sentence:
        assert "read are NIfTI (.nii, .nii.gz), greyscale PNG (.png)" in sentence


def two_transforms(path: Path, shift_mm: float, codes=(1, 1)) -> Path:
    image = nib.Nifti1Image(ball(affine_of()), affine_of())
    other = affine_of(0.0)
    other[0, 3] += shift_mm
    image.set_sform(affine_of(), code=codes[0])
    image.set_qform(other, code=codes[1])
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["pet.nii.gz", "pet.nii"])
def test_two_transforms_that_differ_are_told_and_kept(tmp_path, name):
    path = two_transforms(tmp_path / name, 30.0, (1, 2))
    with pytest.warns(InputWarning, match=r"place it up to 30 mm apart; the sform is used"):
        channel = read_channel(path)
    back = nib.load(write_nifti(tmp_path / "back.nii.gz", channel.values, channel))
    stored = nib.load(path)
    for which in ("get_sform", "get_qform"):
        (one, code), (other, wanted) = (getattr(f, which)(coded=True) for f in (back, stored))
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert code == wanted
    assert np.abs(back.get_sform() - back.get_qform()).max() > 29  # negative control


def test_transforms_that_agree_or_are_alone_are_not_told(tmp_path):
    for shift, codes in ((0.1, (1, 1)), (30.0, (1, 0)), (30.0, (0, 1))):
        read_channel(two_transforms(tmp_path / "pet.nii", shift, codes))  # warnings are errors


def test_masks_of_0_and_255_are_masks(tmp_path, pet):
    channel = read_channel(pet)
    inside = ball(affine_of()) > 2
    masks = [
        read_mask(save(tmp_path / f"{white}.nii", (inside * white).astype(np.uint8), affine_of()),
                  channel)
        for white in (1, 255)
    ]  # fmt: skip
    np.testing.assert_array_equal(*masks)


def test_real_pet_and_ct_with_their_masks(data_root):
    folder = data_root / "sts_petctmr_nifti" / "nifti" / "STS_002"
    image = read_image(PT=folder / "PET_image.nii.gz", CT=folder / "CT_image.nii.gz")
    centroids = {}
    for name, file in (("PT", "PET_mask.nii.gz"), ("CT", "CT_mask.nii.gz")):
        mask = read_mask(folder / file, image[name])
        centroids[name] = image[name].grid.to_world(np.argwhere(mask).mean(axis=0))
        k = int(mask.sum(axis=(0, 1)).argmax())
        plane = image[name].slice(k).plane
        curves = contours_from_mask(mask[:, :, k], plane)
        assert sum(c.signed_area for c in curves) == pytest.approx(
            mask[:, :, k].sum() * plane.pixel_area, rel=0.05
        )
    assert np.linalg.norm(centroids["PT"] - centroids["CT"]) < 5  # the same tumour
    with pytest.raises(InputError, match="does not match image grid"):
        read_mask(folder / "CT_mask.nii.gz", image["PT"])


def test_real_pictures(data_root):
    folder = data_root / "sunnybrook_lv_png"
    path = sorted((folder / "Images").glob("*.png"))[0]
    channel = read_channel(path, "MR")
    mask = read_mask(folder / "Labels" / path.name, channel)
    assert channel.values[mask].mean() > channel.values[~mask].mean()
