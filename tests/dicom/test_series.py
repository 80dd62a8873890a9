"""Does a series become the volume that it is, or is it refused by name?"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError, InputWarning
from tests.dicom.made import FACTOR, SHAPE, SPACING, lesion, pydicom, save_series

ANGLE = np.radians(20.0)
FRAMES = {
    "axial": (1, 0, 0, 0, 1, 0),
    "feet first, supine": (-1, 0, 0, 0, 1, 0),
    "feet first, prone": (1, 0, 0, 0, -1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (np.cos(ANGLE), np.sin(ANGLE), 0, -np.sin(ANGLE), np.cos(ANGLE), 0),
    "oblique twice": (1, 0, 0, 0, np.cos(ANGLE), np.sin(ANGLE)),
}


def refuse(folder: Path, part: str, name: str = "PT") -> None:
    with pytest.raises(InputError) as refusal:
        aj.read_image(**{name: folder})
    assert part in str(refusal.value)


def world_of(frame: tuple[float, ...], index: np.ndarray) -> np.ndarray:
    """RAS of stored indices (column, row, slice), by the standard's own equation (C.7.6.2.1-1)."""
    along, down = np.array(frame[:3], dtype=float), np.array(frame[3:], dtype=float)
    axes = np.stack([along, down, np.cross(along, down)])
    lps = np.array([-30.0, -20.0, 100.0]) + (index * SPACING) @ axes
    return lps * (-1, -1, 1)


@pytest.mark.parametrize("name", FRAMES)
def test_every_voxel_lies_where_the_standard_says(tmp_path, name):
    channel = aj.read_image(CT=save_series(tmp_path, "CT", frame=FRAMES[name])).primary
    index = np.moveaxis(np.indices(SHAPE), 0, -1).reshape(-1, 3)
    at = channel.grid.to_index(world_of(FRAMES[name], index))
    assert np.abs(at - np.rint(at)).max() < 1e-6
    values = channel.values[tuple(np.rint(at).astype(int).T)]
    assert np.array_equal(values, lesion().reshape(-1) - 1024.0)
    assert np.linalg.det(channel.grid.affine[:3, :3]) > 0 or name != "axial"
    mirrored = channel.values[tuple((np.array(channel.grid.shape) - 1 - np.rint(at).astype(int)).T)]
    assert not np.array_equal(mirrored, values)


def test_slices_have_rescales_of_their_own(tmp_path):
    def change(said, n):
        said.RescaleSlope, said.RescaleIntercept = 1.5 + n, n

    channel = aj.read_image(PT=save_series(tmp_path, change=change)).primary
    number = np.arange(SHAPE[2])
    wanted = (lesion() * (1.5 + number) + number) * FACTOR
    assert np.allclose(channel.values, wanted[::-1, ::-1], rtol=1e-12)
    assert channel.quantity == "SUV"


def test_unsigned_compressed_and_implicit_pixels_are_the_same(tmp_path):
    def compressed(said, n):
        said.compress(pydicom.uid.RLELossless)

    def implicit(said, n):
        said.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian

    def unsigned(said, n):
        said.PixelRepresentation = 0
        said.PixelData = (said.pixel_array + 40000).astype("<u2").tobytes()
        said.RescaleIntercept = -1024 - 40000

    plain = aj.read_image(CT=save_series(tmp_path / "a", "CT")).primary
    for change in (compressed, implicit, unsigned):
        folder = save_series(tmp_path / change.__name__, "CT", change=change)
        assert np.array_equal(aj.read_image(CT=folder).primary.values, plain.values)


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("high", [13, 15])
def test_bits_that_are_not_stored_count_for_nothing(tmp_path, sign, high):
    """14 of 16 bits: low ones with others' marks above them, or high ones with marks below."""
    values = lesion() - 3000 * sign

    def change(said, n):
        said.BitsStored, said.HighBit, said.PixelRepresentation = 14, high, sign
        kept = values[:, :, n].T.astype("<i2").view("<u2")
        marked = kept & 0x3FFF | 0x8000 if high == 13 else kept << 2 | 1
        said.PixelData = marked.astype("<u2").tobytes()

    folder = save_series(tmp_path / "ct", "CT", values, change=change)
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    plain, packed = (aj.read_image(CT=path).primary for path in (folder, tmp_path / "ct.zip"))
    assert np.array_equal(plain.values, packed.values)
    if high == 13:
        assert np.array_equal(plain.values[::-1, ::-1], values - 1024.0)


def test_folder_zip_and_folder_of_folders_are_the_same(tmp_path):
    one = aj.read_image(PT=save_series(tmp_path / "one"))
    packed = tmp_path / "series.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((tmp_path / "one").iterdir()):
            archive.write(file, f"study/{file.name}")
    study = tmp_path / "study"
    save_series(study / "deep" / "pt")
    save_series(study / "deep" / "ct", "CT")
    (study / "README.txt").write_text("not DICOM")
    both = aj.read_image(PT=study, CT=study)
    for other in (aj.read_image(PT=packed), both):
        assert np.array_equal(one["PT"].values, other["PT"].values)
        assert one["PT"].grid.matches(other["PT"].grid)
    assert both["CT"].quantity == "HU"


def test_a_file_alone_is_one_slice(tmp_path):
    file = sorted(save_series(tmp_path).iterdir())[0]
    channel = aj.read_image(PT=file).primary
    assert channel.grid.shape == (*SHAPE[:2], 1)
    assert np.allclose(channel.grid.spacing, SPACING)


def test_what_is_read_goes_back_as_nifti(tmp_path):
    channel = aj.read_image(CT=save_series(tmp_path / "ct", "CT", frame=FRAMES["sagittal"])).primary
    aj.write_nifti(tmp_path / "ct.nii.gz", channel.values, channel)
    again = aj.read_image(CT=tmp_path / "ct.nii.gz").primary
    assert again.grid.matches(channel.grid)
    assert np.allclose(again.values, channel.values)


# ------------------------------------------------------------------------------- refusals


def test_missing_slices_are_counted(tmp_path):
    folder = save_series(tmp_path, "CT")
    (folder / "035CT.dcm").unlink()
    refuse(folder, "about 1 slice is missing: between 120.00 and 130.00 mm", "CT")


def test_slices_that_are_lost_evenly_are_said(tmp_path):
    """Every second slice, or those at an end, of which the spacing of the others says nothing."""
    folder = save_series(tmp_path / "a", "CT")
    for n in range(0, 12, 2):
        (folder / f"{7 * n:03d}CT.dcm").unlink()
    with pytest.warns(InputWarning, match="one slice lies every 10 mm and SliceThickness says 5"):
        assert aj.read_image(CT=folder).primary.grid.shape == (*SHAPE[:2], 6)

    def counted(said, n):
        said.NumberOfSlices = 12

    folder = save_series(tmp_path / "b", change=counted)
    aj.read_image(PT=folder)  # the negative control, without a word
    for n in range(9, 12):
        (folder / f"{7 * n:03d}PT.dcm").unlink()
    with pytest.warns(InputWarning, match=r"NumberOfSlices .0054,0081. says 12 and there are 9"):
        aj.read_image(PT=folder)


def test_slices_that_were_meant_to_lie_apart(tmp_path):
    def thin(said, n):
        said.SliceThickness, said.SpacingBetweenSlices = 2.0, 5.0

    aj.read_image(CT=save_series(tmp_path, "CT", change=thin))  # without a word


def test_uneven_slices(tmp_path):
    def change(said, n):
        x, y, z = said.ImagePositionPatient
        said.ImagePositionPatient = [x, y, z + (1.0 if n == 4 else 0.0)]

    refuse(save_series(tmp_path, "CT", change=change), "unevenly spaced", "CT")


def test_slightly_uneven_slices_are_said(tmp_path):
    def change(said, n):
        x, y, z = said.ImagePositionPatient
        said.ImagePositionPatient = [x, y, z + (0.1 if n == 4 else 0.0)]

    with pytest.warns(InputWarning, match="off even spacing"):
        aj.read_image(CT=save_series(tmp_path, "CT", change=change))


def test_a_tilted_gantry(tmp_path):
    def change(said, n):
        x, y, z = said.ImagePositionPatient
        said.ImagePositionPatient = [x, y + 0.5 * n, z]

    refuse(save_series(tmp_path, "CT", change=change), "the gantry was tilted", "CT")


def test_time_frames_in_one_series(tmp_path):
    def change(said, n):
        x, y, z = said.ImagePositionPatient
        said.ImagePositionPatient = [x, y, z - (n % 2) * SPACING[2]]

    refuse(save_series(tmp_path, change=change), "several slices lie at 100.00 mm")


def test_copies_of_files_count_once(tmp_path):
    folder = save_series(tmp_path, "CT")
    (folder / "copy.dcm").write_bytes((folder / "007CT.dcm").read_bytes())
    with pytest.warns(InputWarning, match="1 file is there twice and counts once"):
        assert aj.read_image(CT=folder).primary.grid.shape == SHAPE


def test_two_slices_of_one_uid_are_no_copies(tmp_path):
    def change(said, n):
        if n == 4:
            said.SOPInstanceUID = said.file_meta.MediaStorageSOPInstanceUID = "1.2.3.100.4"

    refuse(save_series(tmp_path, "CT", change=change), "have one SOPInstanceUID and differ", "CT")


def test_a_slice_without_a_uid(tmp_path):
    folder = save_series(tmp_path, "CT")
    said = pydicom.dcmread(folder / "007CT.dcm")
    said.SOPInstanceUID = ""
    said.save_as(folder / "007CT.dcm")
    refuse(folder, "007CT.dcm has no SOPInstanceUID (0008,0018)", "CT")


def test_localizers_in_the_series(tmp_path):
    def change(said, n):
        if n == 3:
            said.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    refuse(save_series(tmp_path, "CT", change=change), "it mixes directions", "CT")


def test_two_sizes_in_one_series(tmp_path):
    def change(said, n):
        if n == 3:
            said.PixelSpacing = [2, 2]

    refuse(save_series(tmp_path, "CT", change=change), "differ in PixelSpacing", "CT")


def test_two_series_two_patients_and_the_wrong_modality(tmp_path):
    folder = save_series(tmp_path / "a", "CT")
    refuse(folder, "channel PT needs a series of modality PT, and there is CT “made CT” of 12")
    save_series(folder / "b", "CT", series="1.2.3.500")
    refuse(folder, "2 series could be channel CT", "CT")
    with pytest.raises(InputError, match="is named like 'PET'; there is CT “made CT” of 12 files"):
        aj.read_image(CT=f"{folder}#PET")
    assert aj.read_image(CT=f"{folder}#1.2.3.500").primary.origin.series_uid == "1.2.3.500"

    def somebody(said, n):
        said.PatientID = "P2"

    other = save_series(tmp_path / "c", change=somebody)
    save_series(other / "d")
    message = "the files are of 2 patients .such as 000PT.dcm, d/000PT.dcm."
    with pytest.raises(InputError, match=message) as refusal:
        aj.read_image(PT=other)
    assert "P1" not in str(refusal.value)
    with pytest.raises(InputError, match="the series are of several patients"):
        aj.read_image(PT=save_series(tmp_path / "e"), CT=save_series(tmp_path / "f", "CT",
                      change=somebody))  # fmt: skip


def test_one_of_several_series_goes_by_its_description(tmp_path):
    def uncorrected(said, n):
        said.SeriesDescription, said.CorrectedImage = "PET NAC", ["DECY"]

    save_series(tmp_path / "one", change=uncorrected)
    save_series(tmp_path / "two", series="1.2.3.700")
    assert aj.read_image(PT=f"{tmp_path}#made").primary.origin.series_uid == "1.2.3.700"
    with pytest.raises(InputError, match="no attenuation correction"):
        aj.read_image(PT=f"{tmp_path}#pet nac")


def test_frames_of_reference_that_differ_are_said(tmp_path):
    def elsewhere(said, n):
        said.FrameOfReferenceUID = "1.2.3.77"

    pet, ct = save_series(tmp_path / "a"), save_series(tmp_path / "b", "CT", change=elsewhere)
    with pytest.warns(InputWarning, match="PT and CT have different frames of reference"):
        aj.read_image(PT=pet, CT=ct)


@pytest.mark.parametrize("uid", ["", None])
def test_no_frame_of_reference_is_said(tmp_path, uid):
    def change(said, n):
        said.FrameOfReferenceUID = uid

    pet, ct = (save_series(tmp_path / name, name, change=change) for name in ("PT", "CT"))
    with pytest.warns(InputWarning, match="PT and CT have no frame of reference alike"):
        aj.read_image(PT=pet, CT=ct)


def test_patients_without_an_id_go_by_name_and_birth_date(tmp_path):
    def nameless(said, n):
        said.PatientID = ""

    def other(said, n):
        said.PatientID, said.PatientName = "", "Other^One"

    def older(said, n):
        said.PatientID, said.PatientBirthDate = "", "18990101"

    pet = save_series(tmp_path / "pt", change=nameless)
    aj.read_image(PT=pet, CT=save_series(tmp_path / "same", "CT", change=nameless))
    aj.read_image(PT=pet, CT=save_series(tmp_path / "known", "CT"))
    for change in (other, older):
        with pytest.raises(InputError, match="of several patients: channel PT") as refusal:
            aj.read_image(PT=pet, CT=save_series(tmp_path / change.__name__, "CT", change=change))
        assert "Nobody" not in str(refusal.value)


def test_damaged_and_claiming_files(tmp_path):
    folder = save_series(tmp_path / "a", "CT")
    file = folder / "007CT.dcm"
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    refuse(folder, "damaged", "CT")
    file.write_bytes(whole[:300])
    refuse(folder, "about 1 slice is missing", "CT")

    def vast(said, n):
        said.Rows = said.Columns = 60000

    refuse(save_series(tmp_path / "b", "CT", change=vast), "claims 7,200,000,000 bytes", "CT")


def test_a_program_in_the_preamble_is_not_read(tmp_path):
    folder = save_series(tmp_path, "CT")
    file = folder / "007CT.dcm"
    file.write_bytes(b"MZ\x90" + file.read_bytes()[3:])
    refuse(folder, "007CT.dcm: the file holds a program", "CT")


def test_private_fields_stay_bytes(tmp_path):
    """What a private field holds is never unpickled or called."""
    trace = tmp_path / "trace"
    bomb = f"cos\nsystem\n(S'touch {trace}'\ntR.".encode()

    def change(said, n):
        said.add_new(0x00110010, "LO", "SOMEBODY")
        said.add_new(0x00111001, "OB", bomb)

    aj.read_image(CT=save_series(tmp_path / "ct", "CT", change=change))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "part"),
    [("../out.dcm", "leads out of it"), ("/etc/out.dcm", "leads out of it"),
     ("c:\\out.dcm", "leads out of it"), ("more.zip", "holds another one")],
)  # fmt: skip
def test_zips_that_are_not_read(tmp_path, name, part):
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, b"x")
    refuse(packed, part)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_zips_in_a_zip_or_a_folder_are_said(tmp_path):
    inner = tmp_path / "many" / "one.zip"
    inner.parent.mkdir()
    with zipfile.ZipFile(inner, "w") as archive:
        for file in save_series(tmp_path / "ct", "CT").iterdir():
            archive.write(file, file.name)
    refuse(inner.parent, "no DICOM image in it, but zip archives (such as one.zip)", "CT")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "deep/inner.dat")
    refuse(tmp_path / "outer.zip", "but zip archives (such as deep/inner.dat)", "CT")
    aj.read_image(CT=inner)  # the negative control


def test_a_damaged_file_of_a_zip(tmp_path):
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in save_series(tmp_path / "ct", "CT").iterdir():
            archive.write(file, file.name)
    aj.read_image(CT=packed)  # the negative control
    data = bytearray(packed.read_bytes())
    data[400:420] = bytes(20)
    packed.write_bytes(data)
    refuse(packed, "a.zip: this zip archive is damaged at ", "CT")


def test_a_zip_bomb(tmp_path):
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(30_000_000))
    with pytest.raises(InputError, match="claims to be 30,000,000 bytes"):
        aj.read_image(PT=packed)


def test_folders_without_images(tmp_path):
    refuse(tmp_path, "there is no DICOM image in it")
    refuse(tmp_path / "none", "there is no such file")


def test_without_the_extra_a_sentence_names_it(tmp_path):
    folder = save_series(tmp_path, "CT")
    program = (
        "import sys; sys.modules['pydicom'] = None\n"
        "import aistat_jax as aj\n"
        f"try: aj.read_image(CT={str(folder)!r})\n"
        "except aj.InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip().endswith('pip install "aistat_jax[dicom]"'), done.stderr


def test_reading_pictures_imports_no_dicom(tmp_path):
    program = (
        "import sys, numpy as np, aistat_jax as aj\n"
        f"np.savez({str(tmp_path / 'a.npz')!r}, np.arange(12.0).reshape(3, 4))\n"
        f"aj.read_image(CT={str(tmp_path / 'a.npz')!r})\n"
        "print([m for m in ('pydicom', 'highdicom') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
