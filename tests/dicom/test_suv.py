"""Is SUV body weight what the header says, and is anything else called by its name?"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError, InputWarning
from tests.dicom.made import FACTOR, lesion, save_series

# What the objects hold whose units are not those of body weight, by expected.csv.
OTHER = {
    "DRO_2_1": "SUV lean body mass (James 128)",
    "DRO_2_2": "SUV ideal body weight",
    "DRO_2_3": "SUV body surface area",
}


def factor_of(folder: Path, name: str = "PT") -> float:
    channel = aj.read_image(**{name: folder}).primary
    ratio = channel.values[::-1, ::-1] / lesion()
    assert np.ptp(ratio) < 1e-9 * ratio.max()
    return float(ratio.mean())


def made(folder: Path, **changes) -> Path:
    """A PET series with attributes changed, those of the tracer by tracer_NAME; None deletes."""

    def change(said, n):
        tracer = said.RadiopharmaceuticalInformationSequence[0]
        for name, value in changes.items():
            where = tracer if name.startswith("tracer_") else said
            name = name.removeprefix("tracer_")
            value = value(n) if callable(value) else value
            if value is None:
                delattr(where, name)
            elif isinstance(value, tuple):
                where.add_new(*value)
            else:
                setattr(where, name, value)

    return save_series(folder, change=change)


def refuse(folder: Path, part: str) -> None:
    with pytest.raises(InputError) as refusal:
        aj.read_image(PT=folder)
    assert part in str(refusal.value)


# ---------------------------------------------------------------------- objects of known answers


def objects(root: Path) -> dict[str, Path]:
    folder = root / "suv_reference_objects"
    if not folder.is_dir():
        pytest.skip("the SUV reference objects are not there")
    with (folder / "expected.csv").open() as stream:
        rows = {row["ID"]: row for row in csv.DictReader(stream)}
    found = {path.name: path for path in sorted(folder.glob("DRO_*"))}
    assert len(found) == 14
    assert set(found) <= set(rows)
    wanted = {(row["SUVmin_expected"], row["SUVmed_expected"], row["SUVmax_expected"])
              for row in rows.values()}  # fmt: skip
    assert wanted == {("0.20", "1.00", "4.00")}
    return found


def inside(folder: Path, name: str) -> tuple[str, np.ndarray]:
    channel = aj.read_image(**{name: folder / "PT"}).primary
    mask = aj.read_mask(folder / "mask" / "DRO_mask.nii.gz", channel)
    values = channel.values[mask]
    return channel.quantity, np.array([values.min(), np.median(values), values.max()])


@pytest.mark.filterwarnings("ignore:.*is read as MBq")
def test_reference_objects_have_their_known_suv(data_root):
    for name, folder in objects(data_root).items():
        if name not in OTHER:
            quantity, found = inside(folder, "PT")
            assert quantity == "SUV"
            assert np.abs(found - (0.2, 1.0, 4.0)).max() < 1e-3, (name, found)


def test_reference_objects_of_other_kinds_are_called_by_their_names(data_root):
    found = objects(data_root)
    for name, kind in OTHER.items():
        refuse(found[name] / "PT", f"the series holds {kind}")
        quantity, values = inside(found[name], "SUL")
        assert quantity == kind
        assert np.abs(values - (0.2, 1.0, 4.0)).max() > 1e-3  # it would have been relabelled


def test_sarcomas_are_their_nifti_twins(data_root):
    root = data_root / "sts_petctmr_dicom_rtstruct"
    if not root.is_dir():
        pytest.skip("the sarcomas are not there in DICOM")
    for patient in ("STS_002", "STS_008", "STS_025"):
        for part, name in (("PET", "PT"), ("CT", "CT"), ("MR_T1", "MR")):
            twin = data_root / "sts_petctmr_nifti" / "nifti" / patient / f"{part}_image.nii.gz"
            own = aj.read_image(**{name: root / patient / part / "image"}).primary
            other = aj.read_image(**{name: twin}).primary
            assert own.grid.matches(other.grid)
            assert np.abs(own.values - other.values).max() < 1e-4


# -------------------------------------------------------------------------- every way to say it


def test_the_factor_is_weight_over_decayed_dose(tmp_path):
    assert np.isclose(factor_of(made(tmp_path)), FACTOR, rtol=1e-12)
    assert not np.isclose(FACTOR, 70_000 / 350e6, rtol=0.1)  # decay is no small matter


def test_every_attribute_used_is_kept(tmp_path):
    origin = aj.read_image(PT=made(tmp_path)).primary.origin
    used = dict(origin.quantity)
    assert used["PatientWeight (0010,1030)"] == "70.0"
    assert used["RadionuclideTotalDose (0018,1074)"] == "350000000.0"
    assert used["RadiopharmaceuticalStartTime (0018,1072)"] == "100000.00"
    assert used["time from injection, min"] == "60.00"
    assert not any(word in str(used) for word in ("Nobody", "P1", "1900"))


def test_decay_corrections(tmp_path):
    plain = 70_000 / 350e6
    assert np.isclose(factor_of(made(tmp_path / "a", DecayCorrection="ADMIN")), plain)
    none = made(
        tmp_path / "b", DecayCorrection="NONE", CorrectedImage=["ATTN"], ActualFrameDuration=2000
    )
    assert np.isclose(factor_of(none), plain * 2 ** (3601 / 6586.2), rtol=1e-6)


def test_slices_without_decay_correction_have_times_of_their_own(tmp_path):
    folder = made(
        tmp_path, DecayCorrection="NONE", CorrectedImage=["ATTN"], ActualFrameDuration=2,
        AcquisitionTime=lambda n: f"11{n:02d}00",
    )  # fmt: skip
    channel = aj.read_image(PT=folder).primary
    ratio = (channel.values[::-1, ::-1] / lesion()).mean(axis=(0, 1))
    assert np.allclose(ratio, 70_000 / 350e6 * 2 ** ((3600 + 60 * np.arange(12)) / 6586.2))


def test_a_series_time_after_the_acquisition(tmp_path):
    late = {"SeriesTime": "150000"}
    with pytest.warns(InputWarning, match="SeriesTime is missing, or later than the acquisition"):
        assert np.isclose(factor_of(made(tmp_path / "a", **late)), FACTOR)
    private = (0x0009100D, "DT", "20250102110500.00")
    scan = made(tmp_path / "b", **late, scan=private)
    assert np.isclose(factor_of(scan), 70_000 / 350e6 * 2 ** (3900 / 6586.2))


def test_over_midnight(tmp_path):
    folder = made(
        tmp_path / "a", tracer_RadiopharmaceuticalStartTime="233000", SeriesTime="003000",
        AcquisitionTime="003000",
    )  # fmt: skip
    with pytest.warns(InputWarning, match="before midnight"):
        assert np.isclose(factor_of(folder), FACTOR)
    whole = {"tracer_RadiopharmaceuticalStartDateTime": "20250101233000.00"}
    folder = made(tmp_path / "b", **whole, SeriesTime="003000", AcquisitionTime="003000")
    assert np.isclose(factor_of(folder), FACTOR)


def test_doses_other_nuclides_and_units(tmp_path):
    with pytest.warns(InputWarning, match="350 is read as MBq"):
        assert np.isclose(factor_of(made(tmp_path / "a", tracer_RadionuclideTotalDose=350)), FACTOR)
    gallium = made(tmp_path / "b", tracer_RadionuclideHalfLife=4057.7)
    assert np.isclose(factor_of(gallium), 70_000 / 350e6 * 2 ** (3600 / 4057.7))
    assert factor_of(made(tmp_path / "c", Units="GML")) == 1.0
    counts = made(tmp_path / "d", Units="CNTS", scale=(0x70531000, "DS", "0.25"))
    assert np.isclose(factor_of(counts), 0.25)
    counts = made(
        tmp_path / "e", Units="CNTS", none=(0x70531000, "DS", "0"), scale=(0x70531009, "DS", "2")
    )
    assert np.isclose(factor_of(counts), 2 * FACTOR)


def test_other_channels_keep_what_the_series_holds(tmp_path):
    channel = aj.read_image(activity=made(tmp_path)).primary
    assert channel.quantity == "Bq/ml"
    assert np.array_equal(channel.values[::-1, ::-1], lesion())


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"PatientWeight": None}, "PatientWeight (0010,1030) is missing"),
        ({"PatientWeight": 0}, "PatientWeight (0010,1030) is 0.0 and must be a positive"),
        ({"PatientWeight": 7000}, "7000 kg, which cannot be"),
        ({"Units": None}, "Units (0054,1001) is missing"),
        ({"Units": "PROPCPS"}, "Units PROPCPS"),
        ({"Units": "CNTS"}, "(7053,1000) and (7053,1009)"),
        ({"DecayCorrection": None}, "DecayCorrection (0054,1102) is missing"),
        ({"DecayCorrection": "LATER"}, "is LATER"),
        ({"CorrectedImage": ["ATTN"]}, "does not name DECY"),
        ({"CorrectedImage": ["DECY"]}, "does not name ATTN: no attenuation correction"),
        ({"tracer_RadionuclideTotalDose": None}, "RadionuclideTotalDose (0018,1074) is missing"),
        ({"tracer_RadionuclideTotalDose": 50_000}, "neither Bq nor MBq"),
        ({"tracer_RadionuclideHalfLife": None}, "RadionuclideHalfLife (0018,1075) is missing"),
        ({"tracer_RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime (0018,1072)"),
        ({"RadiopharmaceuticalInformationSequence": None}, "(0054,0016) is missing"),
        ({"AcquisitionTime": None}, "AcquisitionTime (0008,0032) is missing"),
        ({"RescaleSlope": None}, "RescaleSlope (0028,1053) is missing"),
        ({"tracer_RadiopharmaceuticalStartDateTime": "20240101100000"}, "which cannot be"),
        ({"tracer_RadiopharmaceuticalStartDateTime": "20250102120000"}, "which cannot be"),
        ({"SUVType": "LBM", "Units": "GML"}, "holds SUV lean body mass"),
        ({"Units": "CM2ML"}, "holds SUV body surface area"),
    ],
)
def test_what_is_missing_or_cannot_be_is_named(tmp_path, changes, part):
    refuse(made(tmp_path, **changes), part)
