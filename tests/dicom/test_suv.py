"""Is SUV body weight what the header says, and is anything else called by its name?"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
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

GE = 0x0009100D, "DT"


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


def test_times_rescales_and_makers_that_are_used_are_kept(tmp_path):
    folder = made(
        tmp_path / "a", RescaleSlope=lambda n: 1 + n, RescaleIntercept=0,
        AcquisitionTime=lambda n: f"11{n:02d}00",
    )  # fmt: skip
    used = dict(aj.read_image(PT=folder).primary.origin.quantity)
    assert used["RescaleSlope (0028,1053)"] == "1 to 12"
    assert used["RescaleIntercept (0028,1052)"] == "0"
    assert used["AcquisitionDate, AcquisitionTime (0008,0022), (0008,0032)"] == (
        "2025-01-02 11:00:00 to 2025-01-02 11:11:00"
    )
    assert not any("Manufacturer" in name for name in used)  # of which nothing was made
    maker = made(
        tmp_path / "b", Manufacturer="GE MEDICAL", scan=(*GE, "20250102105500.00"),
        SeriesTime="150000",
    )  # fmt: skip
    used = dict(aj.read_image(PT=maker).primary.origin.quantity)
    assert used["Manufacturer (0008,0070)"] == "GE MEDICAL"
    assert used["GE scan date and time (0009,100D)"] == "2025-01-02 10:55:00"


def test_attenuation_of_which_nothing_is_said(tmp_path):
    with pytest.warns(InputWarning, match="nothing says that attenuation was corrected"):
        assert np.isclose(factor_of(made(tmp_path, CorrectedImage=None)), FACTOR)


def test_private_blocks_lie_anywhere(tmp_path):
    """Fields of a vendor in its own block, whichever it is; those of others count for nothing."""
    creator, other = "Philips PET Private Group", "SOMEBODY"
    blocks = {"by": (0x70530010, "LO", other), "own": (0x705300E3, "LO", creator)}
    scale = {"no": (0x70531000, "DS", "9"), "scale": (0x7053E300, "DS", "0.25")}
    counts = made(tmp_path / "a", Units="CNTS", **blocks, **scale)
    channel = aj.read_image(PT=counts).primary
    assert np.isclose(factor_of(counts), 0.25)
    assert dict(channel.origin.quantity)["Philips SUV factor (7053,E300)"] == "0.25"
    none = made(tmp_path / "b", Units="CNTS", by=blocks["by"], scale=(0x7053E300, "DS", "0.25"))
    refuse(none, "(7053,1000) and (7053,1009)")
    ge = made(
        tmp_path / "c", SeriesTime="150000", AcquisitionTime="111000",
        creator=(0x00090011, "LO", "GEMS_PETD_01"), scan=(0x0009110D, "DT", "20250102110500.00"),
    )  # fmt: skip
    assert np.isclose(factor_of(ge), 70_000 / 350e6 * 2 ** (3900 / 6586.2))


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
    first, other = (0x00090010, "LO", "GEMS_PETD_01"), (0x00090010, "LO", "SOMEBODY")
    times = {"AcquisitionTime": "111000", **late}
    plain, since = 70_000 / 350e6, lambda seconds: 2 ** (seconds / 6586.2)
    scan = made(tmp_path / "b", **times, creator=first, scan=(*GE, "20250102110500.00"))
    assert np.isclose(factor_of(scan), plain * since(3900))
    wrong = {
        "somebody else's field": {"creator": other, "scan": (*GE, "20250102110500.00")},
        "of no vendor": {"scan": (*GE, "20250102110500.00")},
        "a scan after the acquisition": {"creator": first, "scan": (*GE, "20250102111500.00")},
    }
    for name, changes in wrong.items():
        with pytest.warns(InputWarning, match="decay is counted to the first AcquisitionTime"):
            assert np.isclose(
                factor_of(made(tmp_path / name, **times, **changes)), plain * since(4200)
            )
    maker = made(
        tmp_path / "c", **times, scan=(*GE, "20250102110500.00"), Manufacturer="GE MEDICAL"
    )
    assert np.isclose(factor_of(maker), plain * since(3900))


def test_a_late_series_time_is_reckoned_from_the_frames(tmp_path):
    """Two beds of 180 s from 11:10 and 11:13, corrected to 11:00; the series was written later."""
    rate = np.log(2) / 6586.2
    middle = np.log(rate * 180 / -np.expm1(-rate * 180)) / rate
    beds = {
        "SeriesTime": "150000",
        "AcquisitionTime": lambda n: "111000" if n < 6 else "111300",
    }

    def reference(n):
        return round(1000 * (600 + 180 * (n >= 6) + middle), 1)

    plain = 70_000 / 350e6
    with pytest.warns(InputWarning, match="FrameReferenceTime is counted from, 2025-01-02 11:0"):
        found = factor_of(made(tmp_path / "a", **beds, FrameReferenceTime=reference))
    assert np.isclose(found, FACTOR, rtol=1e-6)
    unequal = made(tmp_path / "b", **beds, FrameReferenceTime=lambda n: 60000 * (n + 1))
    with pytest.warns(InputWarning, match="to the first AcquisitionTime"):
        found = factor_of(unequal)
    assert np.isclose(found, plain * 2 ** (4200 / 6586.2))


def test_over_midnight(tmp_path):
    folder = made(
        tmp_path / "a", tracer_RadiopharmaceuticalStartTime="233000", SeriesTime="003000",
        AcquisitionTime="003000",
    )  # fmt: skip
    with pytest.warns(InputWarning, match="before midnight"):
        assert np.isclose(factor_of(folder), FACTOR)
    whole = {
        "tracer_RadiopharmaceuticalStartDateTime": "20250101233000.00",
        "tracer_RadiopharmaceuticalStartTime": "233000",
    }
    folder = made(tmp_path / "b", **whole, SeriesTime="003000", AcquisitionTime="003000")
    assert np.isclose(factor_of(folder), FACTOR)


def test_an_injection_between_series_and_acquisition_is_no_day_earlier(tmp_path):
    early = {"SeriesTime": "070000"}
    part = "SeriesTime (0008,0031) is before the injection and the acquisition after it"
    refuse(made(tmp_path / "a", **early), part)
    whole = {"tracer_RadiopharmaceuticalStartDateTime": "20250102100000"}
    refuse(made(tmp_path / "b", **early, **whole), "which cannot be")
    fine = made(tmp_path / "c", **early, tracer_RadiopharmaceuticalStartTime="060000")
    assert np.isclose(factor_of(fine), FACTOR)


def test_waits_that_are_too_long_or_too_short(tmp_path):
    half = 6586.2

    def after(seconds):
        at = datetime(2025, 1, 2, 11) - timedelta(seconds=seconds)
        return {
            "tracer_RadiopharmaceuticalStartDateTime": f"{at:%Y%m%d%H%M%S}",
            "tracer_RadiopharmaceuticalStartTime": None,
        }

    refuse(made(tmp_path / "a", **after(6.1 * half)), "which cannot be; check the times")
    for name, seconds in (("b", 3.1 * half), ("c", 120)):
        with pytest.warns(InputWarning, match="which is unusual: check the times"):
            factor_of(made(tmp_path / name, **after(seconds)))
    factor_of(made(tmp_path / "d", **after(2.9 * half)))  # without a word


def test_a_time_of_the_day_says_too_little_of_a_long_half_life(tmp_path):
    zirconium = {"tracer_RadionuclideHalfLife": 282240.0}
    part = "StartDateTime (0018,1078) is missing, and a time of the day alone"
    refuse(made(tmp_path / "a", **zirconium), part)
    whole = {"tracer_RadiopharmaceuticalStartDateTime": "20241230100000"}
    found = factor_of(made(tmp_path / "b", **zirconium, **whole))
    assert np.isclose(found, 70_000 / 350e6 * 2 ** (73 / 78.4))


def test_time_zones(tmp_path):
    there = {"tracer_RadiopharmaceuticalStartDateTime": "20250102090000.00+0000"}
    found = factor_of(made(tmp_path / "a", **there, TimezoneOffsetFromUTC="+0100"))
    assert np.isclose(found, FACTOR)
    same = {"tracer_RadiopharmaceuticalStartDateTime": "20250102100000.00+0100"}
    with pytest.warns(InputWarning, match="names its time zone and the other times do not"):
        assert np.isclose(factor_of(made(tmp_path / "b", **same)), FACTOR)
    with pytest.warns(InputWarning, match="(names its time zone|StartTime .100000.00. differ)"):
        dropped = factor_of(made(tmp_path / "c", **there))
    assert dropped > 1.4 * FACTOR  # negative control: an hour is no small matter
    differ = {"tracer_RadiopharmaceuticalStartDateTime": "20250102100200"}
    with pytest.warns(InputWarning, match="differ: the first is used"):
        factor_of(made(tmp_path / "d", **differ))


def test_unusual_doses_are_said(tmp_path):
    for dose in (2e6, 2.5e9, 3.0):
        with pytest.warns(InputWarning, match="MBq, which is an unusual dose|read as MBq"):
            factor_of(made(tmp_path / f"{dose:g}", tracer_RadionuclideTotalDose=dose))
    factor_of(made(tmp_path / "usual", tracer_RadionuclideTotalDose=6e6))  # without a word


def test_doses_other_nuclides_and_units(tmp_path):
    with pytest.warns(InputWarning, match="350 is read as MBq"):
        assert np.isclose(factor_of(made(tmp_path / "a", tracer_RadionuclideTotalDose=350)), FACTOR)
    gallium = made(tmp_path / "b", tracer_RadionuclideHalfLife=4057.7)
    assert np.isclose(factor_of(gallium), 70_000 / 350e6 * 2 ** (3600 / 4057.7))
    assert factor_of(made(tmp_path / "c", Units="GML")) == 1.0
    creator = (0x70530010, "LO", "Philips PET Private Group")
    counts = made(tmp_path / "d", Units="CNTS", by=creator, scale=(0x70531000, "DS", "0.25"))
    assert np.isclose(factor_of(counts), 0.25)
    counts = made(
        tmp_path / "e", Units="CNTS", by=creator, none=(0x70531000, "DS", "0"),
        scale=(0x70531009, "DS", "2"),
    )  # fmt: skip
    assert np.isclose(factor_of(counts), 2 * FACTOR)
    somebody = (0x70530010, "LO", "SOMEBODY")
    counts = made(tmp_path / "f", Units="CNTS", by=somebody, scale=(0x70531000, "DS", "0.25"))
    refuse(counts, "(7053,1000) and (7053,1009)")


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
        ({"tracer_RadionuclideTotalDose": 350_000}, "neither Bq nor MBq"),
        ({"DecayCorrection": "NONE"}, "is NONE, and CorrectedImage names DECY"),
        ({"AcquisitionDate": "", "SeriesDate": ""}, "AcquisitionDate (0008,0022) is missing"),
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
