"""Is nothing signed until a person does it, and does that outlive kills, edits and reruns?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import signature_file, signoff
from aistat_jax._errors import InputError, InputWarning
from aistat_jax.case import Case
from aistat_jax.cli import main
from aistat_jax.dicom.approval import digest_less_approval, person_name
from aistat_jax.signoff import change_between, held, standing
from aistat_jax.views.outputs import write_files
from tests.dicom.judges import check_valid
from tests.dicom.made import pydicom, save_series
from tests.dicom.test_structures import case_of, stars, surface
from tests.helpers import make_image, make_posterior

WHO = "Doe^Jane"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return aj.read_image(PT=save_series(tmp_path_factory.mktemp("series") / "pt"))


@pytest.fixture(scope="module")
def made(tmp_path_factory, image) -> Path:
    return written(tmp_path_factory.mktemp("made") / "out", case_of(image, stars(image)))


@pytest.fixture
def folder(tmp_path, made) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def written(out: Path, case) -> Path:
    out.mkdir(exist_ok=True)
    write_files(out, case, pictures=False)
    return out


def structures(folder: Path):
    return pydicom.dcmread(folder / "rtstruct.dcm")


def algorithms(folder: Path) -> set[str]:
    return {each.ROIGenerationAlgorithm for each in structures(folder).StructureSetROISequence}


def lines(folder: Path) -> list[str]:
    return (folder / "signatures.jsonl").read_text(encoding="utf-8").splitlines()


# ------------------------------------------------------------------------------- what is decided


def test_nothing_is_signed_by_default(folder):
    assert aj.signatures(folder) == ()
    assert standing(folder) == ({"z004": None, "z005": None, "z006": None}, "UNAPPROVED")
    assert structures(folder).ApprovalStatus == "UNAPPROVED"
    assert "ReviewerName" not in structures(folder)
    assert not (folder / "signatures.jsonl").exists()


def test_all_lesions_accepted_approve_the_structure_set_as_a_new_instance(folder, image):
    before = structures(folder)
    assert algorithms(folder) == {"AUTOMATIC"}
    same = digest_less_approval(folder / "rtstruct.dcm")
    aj.sign(folder, ["z004", "z005"], "accept", by=WHO)
    assert structures(folder) == before  # one of three is not signed
    (last,) = aj.sign(folder, "z006", "accept", by="Roe^Richard", reason="as seen on CT")
    after = structures(folder)
    assert (after.ApprovalStatus, after.ReviewerName) == ("APPROVED", "Roe^Richard")
    assert len(after.ReviewDate) == 8
    assert len(after.ReviewTime) == 6
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SeriesInstanceUID == before.SeriesInstanceUID
    assert after.ROIContourSequence == before.ROIContourSequence
    assert digest_less_approval(folder / "rtstruct.dcm") == same
    assert algorithms(folder) == {"AUTOMATIC"}  # negative control: nobody has edited
    assert [one.void for one in aj.signatures(folder)] == ["", "", ""]
    assert last.when.endswith("Z")
    assert json.loads(lines(folder)[2])["reason"] == "as seen on CT"
    check_valid(folder / "rtstruct.dcm")


def test_the_last_decision_counts_and_both_are_kept(folder):
    aj.sign(folder, "all", "accept", by=WHO)
    first = lines(folder)
    assert len(first) == 3
    aj.sign(folder, "z005", "reject", by="Roe^Richard", reason="too small")
    assert (structures(folder).ApprovalStatus, structures(folder).ReviewerName) == (
        "REJECTED", "Roe^Richard",
    )  # fmt: skip
    assert lines(folder)[:3] == first
    last, status = standing(folder)
    assert status == "REJECTED"
    assert last["z005"].decision == "reject"
    assert [one.decision for one in aj.signatures(folder) if one.target == "z005"] == [
        "accept", "reject",
    ]  # fmt: skip
    check_valid(folder / "rtstruct.dcm")
    aj.sign(folder, "z005", "accept", by=WHO)
    assert structures(folder).ApprovalStatus == "APPROVED"
    assert len(lines(folder)) == 5


def test_what_an_edit_has_changed_is_measured(folder, tmp_path, image):
    computed, edited = stars(image), stars(image, radius=12.5)
    edited[0], edited[2] = computed[0], computed[2]
    other = written(tmp_path / "edited", case_of(image, edited))
    (one,) = aj.sign(other, "z005", "edit", by=WHO, before=computed[1])
    chart, change = edited[1].chart, one.changed
    assert change.mean == pytest.approx(1.5, rel=0.05)
    assert 1.5 <= change.largest < 2.0
    assert (change.unit, change.content_unit) == ("mm", "mm2")
    assert change.content_before == float(chart.content(computed[1].estimate))
    assert change.content_after == float(chart.content(edited[1].estimate))
    assert aj.signatures(other)[0].changed == change
    assert algorithms(other) == {"SEMIAUTOMATIC"}  # all slices are one region each
    aj.sign(other, ["z004", "z006"], "accept", by=WHO)
    assert structures(other).ApprovalStatus == "APPROVED"
    assert algorithms(other) == {"SEMIAUTOMATIC"}
    assert not any(each.void for each in aj.signatures(other))
    check_valid(other / "rtstruct.dcm")
    assert held(other, edited)
    assert not held(other, computed)
    assert not held(tmp_path, edited)
    nothing = change_between(edited[1], edited[1])  # negative control
    assert (nothing.mean, nothing.largest) == (pytest.approx(0, abs=1e-9),) * 2


def test_a_surface_is_measured_in_ml(image):
    small, large = surface(image, 12.0), surface(image, 14.0)
    change = change_between(small, large)
    assert change.mean == pytest.approx(2.0, rel=0.02)
    assert change.content_unit == "ml"
    assert change.content_after == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.02)
    with pytest.raises(InputError, match="`before` is not the posterior that lesion was edit"):
        change_between(stars(image)[0], large)


def test_a_picture_is_signed_in_pixels(tmp_path):
    first, second = make_posterior(spacing=None), make_posterior(spacing=None, axes=(15.0, 11.0))
    case = Case(make_image(spacing=None), (aj.contour_of(second, tolerance_px=1.0),))
    out = written(tmp_path / "out", case)
    (one,) = aj.sign(out, "lesion-1", "edit", by=WHO, before=first)
    assert (one.changed.unit, one.changed.content_unit) == ("px", "px2")
    assert standing(out)[1] == "APPROVED"
    assert not (out / "rtstruct.dcm").exists()


# -------------------------------------------------------------------------- files that change


@pytest.mark.parametrize(
    "name", ["contours.csv", "contours.geojson", "posterior.nc", "segmentation.dcm"]
)
def test_a_signature_is_void_when_a_file_has_changed(folder, name):
    aj.sign(folder, "all", "accept", by=WHO)
    with (folder / name).open("ab") as stream:
        stream.write(b"\0")
    assert {one.void for one in aj.signatures(folder)} == {f"{name} not as signed"}
    assert standing(folder)[1] == "UNAPPROVED"
    aj.sign(folder, "z004", "accept", by=WHO)
    assert structures(folder).ApprovalStatus == "UNAPPROVED"
    assert "ReviewerName" not in structures(folder)


def test_a_signature_is_void_when_a_contour_of_the_structure_set_has_moved(folder):
    aj.sign(folder, "all", "accept", by=WHO)
    (folder / "summary.json").touch()  # negative control: not a file with contours
    file = structures(folder)
    file.ReviewerName = "Nobody"
    file.save_as(folder / "rtstruct.dcm")
    assert not any(one.void for one in aj.signatures(folder))
    file.ROIContourSequence[0].ROIDisplayColor = [1, 2, 3]
    file.save_as(folder / "rtstruct.dcm")  # of no lesion alone
    assert all(one.void == "rtstruct.dcm not as signed" for one in aj.signatures(folder))
    contour = file.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [contour.ContourData[0] + 0.1, *contour.ContourData[1:]]
    file.save_as(folder / "rtstruct.dcm")
    void = {one.target: one.void for one in aj.signatures(folder)}
    assert void == {"z004": "rtstruct.dcm not as signed", "z005": "", "z006": ""}
    (folder / "rtstruct.dcm").unlink()
    assert all(one.void == "rtstruct.dcm not as signed" for one in aj.signatures(folder))


def changed_again(folder: Path, image, radius: float = 12.5, which: int = 1) -> None:
    """The files of a case of which one lesion has another contour, in place of those there."""
    posteriors = stars(image)
    posteriors[which] = stars(image, radius=radius)[which]
    written(folder, case_of(image, posteriors))


def test_a_change_of_another_lesion_leaves_a_signature_valid(folder, image):
    aj.sign(folder, "all", "accept", by=WHO)
    changed_again(folder, image)
    void = {one.target: one.void for one in aj.signatures(folder)}
    assert void == {
        "z004": "",
        "z005": "contours.csv, contours.geojson, posterior.nc, rtstruct.dcm not as signed",
        "z006": "",
    }
    assert standing(folder)[1] == "UNAPPROVED"
    aj.sign(folder, "z005", "accept", by="Roe^Richard")
    assert structures(folder).ApprovalStatus == "APPROVED"
    # what holds the voxels of all is as the last of them was signed
    with (folder / "segmentation.dcm").open("ab") as stream:
        stream.write(b"\0")
    assert [one.void for one in aj.signatures(folder)][3] == "segmentation.dcm not as signed"
    assert standing(folder)[1] == "UNAPPROVED"


def test_files_that_no_signature_was_given_of_are_never_approved(folder, image):
    """Each lesion as somebody signed it, but together as nobody has."""
    aj.sign(folder, "all", "accept", by=WHO)
    changed_again(folder, image, which=0)
    aj.sign(folder, ["z005", "z006"], "accept", by=WHO)
    changed_again(folder, image, which=1)
    aj.sign(folder, "z004", "accept", by=WHO)
    written(folder, case_of(image, stars(image)))
    last = {one.target: one for one in aj.signatures(folder)}
    with (folder / "segmentation.dcm").open("ab") as stream:
        stream.write(b"\0")
    assert standing(folder)[1] == "UNAPPROVED", {name: one.void for name, one in last.items()}


def test_a_structure_set_that_is_damaged_voids_and_can_be_rejected(folder):
    aj.sign(folder, "all", "accept", by=WHO)
    file = structures(folder)
    contour = file.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:-1]
    file.save_as(folder / "rtstruct.dcm")
    assert all("rtstruct.dcm" in one.void for one in aj.signatures(folder))
    aj.sign(folder, "z004", "reject", by=WHO, reason="damaged")
    assert structures(folder).ApprovalStatus == "REJECTED"


def test_of_surfaces_only_the_edited_one_is_semiautomatic(tmp_path, image):
    one, two = surface(image, 12.0), surface(image, 8.0)
    chart = aj.replace(two.chart, centre=np.array([20.0, -28.0, 145.0]))
    computed = aj.replace(two, chart=chart, target_id="lesion.2")
    edited = aj.replace(computed, radii=computed.radii + 1.0)
    out = written(tmp_path / "out", case_of(image, [one, edited]))
    aj.sign(out, "lesion.2", "edit", by=WHO, before=computed)
    said = {each.ROIName: each.ROIGenerationAlgorithm
            for each in structures(out).StructureSetROISequence}  # fmt: skip
    assert {said[name] for name in said if name.startswith("aistat2_")} == {"SEMIAUTOMATIC"}
    assert {said[name] for name in said if name.startswith("aistat1_")} == {"AUTOMATIC"}
    assert aj.signatures(out)[0].void == ""


@pytest.mark.slow
def test_surfaces_are_signed_one_by_one(tmp_path, image):
    one, two = surface(image, 12.0), surface(image, 8.0)
    chart = aj.replace(two.chart, centre=np.array([20.0, -28.0, 145.0]))
    two = aj.replace(two, chart=chart, target_id="lesion.2")
    out = written(tmp_path / "out", case_of(image, [one, two]))
    aj.sign(out, "all", "accept", by=WHO)
    assert structures(out).ApprovalStatus == "APPROVED"
    written(out, case_of(image, [one, aj.replace(two, radii=two.radii + 1.0)]))
    void = {each.target: each.void for each in aj.signatures(out)}
    assert void["lesion"] == ""
    assert "rtstruct.dcm, surface-lesion.2.lower.surf.gii" in void["lesion.2"]


def test_a_contour_that_is_nobodys_voids_all(folder, image):
    aj.sign(folder, "all", "accept", by=WHO)
    changed_again(folder, image)
    file = structures(folder)
    contour = file.ROIContourSequence[0].ContourSequence[0]
    far = pydicom.Dataset()
    far.ContourGeometricType, far.NumberOfContourPoints = "CLOSED_PLANAR", 3
    far.ContourData = [float(x) + 500 for x in contour.ContourData[:9]]
    file.ROIContourSequence[0].ContourSequence.append(far)
    file.save_as(folder / "rtstruct.dcm")
    assert all("rtstruct.dcm not as signed" in one.void for one in aj.signatures(folder))


def test_a_record_of_before_lesions_had_digests_of_their_own_is_read(folder, image):
    aj.sign(folder, "all", "accept", by=WHO)
    old = []
    for line in lines(folder):
        said = json.loads(line) | {"schema": 1}
        del said["own"], said["others"]
        old.append(json.dumps(said))
    (folder / "signatures.jsonl").write_text("\n".join(old) + "\n")
    assert [one.void for one in aj.signatures(folder)] == [""] * 3
    assert standing(folder)[1] == "APPROVED"
    changed_again(folder, image)
    assert all("posterior.nc" in one.void for one in aj.signatures(folder))  # of whole files


# --------------------------------------------------------------------------------------- ends

KILLED = """
import os, signal, sys
from aistat_jax import signoff
whole = os.write
def half(number, data):
    whole(number, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
signoff.sign(sys.argv[1], "z005", "accept", by="Doe^Jane")
"""


def test_a_kill_in_the_middle_of_a_line_leaves_the_former_ones(folder, repository):
    aj.sign(folder, "z004", "accept", by=WHO)
    (first,) = lines(folder)
    command = [sys.executable, "-c", KILLED, str(folder)]
    done = subprocess.run(command, cwd=repository, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert len(lines(folder)) == 2
    with pytest.warns(InputWarning, match="line 2 is not whole and counts for nothing"):
        (one,) = aj.signatures(folder)
    assert one.target == "z004"
    with pytest.warns(InputWarning, match="line 2 is not whole"):
        aj.sign(folder, ["z005", "z006"], "accept", by=WHO)
    assert lines(folder)[0] == first
    assert len(lines(folder)) == 4
    assert structures(folder).ApprovalStatus == "APPROVED"


def test_a_full_disk_is_said_and_never_approves(folder, monkeypatch):
    def full(number, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(signature_file.os, "write", full)
    with pytest.raises(InputError, match="no space left on device.*so nothing is signed"):
        aj.sign(folder, "all", "accept", by=WHO)
    assert structures(folder).ApprovalStatus == "UNAPPROVED"
    with pytest.raises(InputError, match="nothing is signed"):
        aj.sign(folder, "all", "reject", by=WHO)
    assert structures(folder).ApprovalStatus == "REJECTED"  # the safe side


def test_an_end_before_the_structure_set_leaves_it_unapproved_until_signed_again(
    folder, monkeypatch, capsys
):
    def ended(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(signoff, "approve", ended)
        with pytest.raises(KeyboardInterrupt):
            aj.sign(folder, "all", "accept", by=WHO)
    assert standing(folder)[1] == "APPROVED"
    assert structures(folder).ApprovalStatus == "UNAPPROVED"
    assert main(["sign", str(folder)]) == 0
    assert "UNAPPROVED, but by signatures it is APPROVED: sign again" in capsys.readouterr().err
    aj.sign(folder, "z004", "accept", by=WHO)
    assert structures(folder).ApprovalStatus == "APPROVED"


def test_several_people_at_once_lose_no_line(folder):
    with ThreadPoolExecutor(6) as pool:
        names = [f"Person {n}" for n in range(12)]
        list(pool.map(lambda name: aj.sign(folder, "all", "accept", by=name), names))
    found = aj.signatures(folder)
    assert len(found) == 36
    assert sorted({one.by for one in found}) == sorted(names)
    assert not any(one.void for one in found)
    assert structures(folder).ReviewerName == found[-1].by


def test_a_rerun_keeps_the_record_and_voids_it(tmp_path, made, image):
    from aistat_jax._folders import Run, claim, filled

    out, run = tmp_path / "out", Run("contour", "digest", "pt")
    for again in (False, True):
        with filled(claim(out, run)) as filling:
            shutil.copytree(made, filling.folder, dirs_exist_ok=True)
            if again:
                aj.write_rtstruct(filling.folder / "rtstruct.dcm", case_of(image, stars(image)))
        if not again:
            aj.sign(out, "all", "accept", by=WHO)
            assert standing(out)[1] == "APPROVED"
    assert structures(out).ApprovalStatus == "UNAPPROVED"
    assert [one.void for one in aj.signatures(out)] == ["rtstruct.dcm not as signed"] * 3


# ---------------------------------------------------------------------------------- refusals


def test_what_cannot_be_meant_is_refused_and_writes_nothing(folder, tmp_path, image):
    def refused(part, *arguments, **more):
        with pytest.raises(InputError, match=part):
            aj.sign(*arguments, **{"by": WHO} | more)

    refused("there is no lesion 'z009'; there are: z004, z005, z006", folder, "z009", "accept")
    refused("no lesion 'z009'", folder, ["z004", "z009"], "accept")
    refused(
        "`by` is empty; pass the name of the person who signs", folder, "z004", "accept", by=" "
    )
    refused("decision 'approve' is not known; it is one of accept,", folder, "z004", "approve")
    refused("`before` is missing: what lesion z004 was edited from", folder, "z004", "edit")
    refused("`before` means nothing to accept", folder, "z004", "accept", before=stars(image)[0])
    refused("no lesion is named; there are: z004", folder, [], "accept")
    refused("summary.json cannot be read", tmp_path / "none", "z004", "accept")
    with pytest.raises(InputError, match="there are two decisions on lesion z004; pass one"):
        signoff.sign_several(folder, [("all", "accept"), ("z004", "reject")], by=WHO)
    assert not (folder / "signatures.jsonl").exists()
    (folder / "signatures.jsonl").write_text('{"schema": 99}\n')
    with pytest.raises(InputError, match="written by a newer version"):
        aj.signatures(folder)
    assert person_name("A\\B=C") == "A/B C"


# -------------------------------------------------------------------------- the command line


def test_a_case_is_signed_and_listed_on_the_command_line(folder, capsys):
    assert main(["sign", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("not signed") == 3
    assert "rtstruct.dcm is UNAPPROVED" in printed
    options = ["--by", WHO, "--accept", "z004", "--accept", "z006", "--reject", "z005"]
    assert main(["sign", str(folder), *options, "--reason", "leaks into the liver"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"accepted by {WHO}") == 2
    assert [line for line in printed.splitlines() if "leaks into the liver" in line] == [
        line for line in printed.splitlines() if "z005  rejected" in line
    ]
    why = {one.target: one.reason for one in aj.signatures(folder)}
    assert why == {"z004": None, "z005": "leaks into the liver", "z006": None}
    assert "rtstruct.dcm is REJECTED" in printed
    assert main(["sign", str(folder), "--by", WHO, "--accept", "all"]) == 0
    assert "rtstruct.dcm is APPROVED" in capsys.readouterr().out
    (folder / "contours.csv").write_text("")
    assert main(["sign", str(folder)]) == 0
    told = capsys.readouterr()
    assert told.out.count("void, contours.csv not as signed") == 3
    assert "rtstruct.dcm is APPROVED, but by signatures it is UNAPPROVED" in told.err


def test_an_edit_is_signed_on_the_command_line_from_the_folder_it_was_computed_in(
    folder, tmp_path, image, capsys
):
    changed_again(folder, image)  # z005, 1.5 mm larger
    computed = written(tmp_path / "computed", case_of(image, stars(image)))
    options = ["--by", WHO, "--edited-from", str(computed), "--edit"]
    assert main(["sign", str(folder), *options, "z005", "--accept", "z004"]) == 0
    assert f"z005  accepted as edited by {WHO}" in capsys.readouterr().out
    accepted, edited = aj.signatures(folder)
    assert (accepted.decision, accepted.changed) == ("accept", None)
    assert edited.decision == "edit"
    assert edited.changed == change_between(stars(image)[1], stars(image, radius=12.5)[1])
    assert edited.changed.mean == pytest.approx(1.5, rel=0.05)
    before = lines(folder)
    assert main(["sign", str(folder), *options, "z009"]) == 2
    assert "there is no lesion 'z009'; there are: z004" in capsys.readouterr().err
    other = written(tmp_path / "other", case_of(image, stars(image, slices=(4, 6))))
    options[3] = str(other)
    assert main(["sign", str(folder), *options, "all"]) == 2
    told = capsys.readouterr().err
    assert "posterior.nc: there is no posterior of lesion z005; there are: z004, z006" in told
    solid = tmp_path / "solid"
    solid.mkdir()
    aj.save_posterior(solid / "posterior.nc", [aj.replace(surface(image), target_id="z005")])
    options[3] = str(solid)
    assert main(["sign", str(folder), *options, "z005"]) == 2
    assert "--edited-from is not the posterior that z005 was edited from" in capsys.readouterr().err
    assert lines(folder) == before


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--accept", "z004"], "--by NAME is missing"),
        (["--by", WHO], "nothing is decided; pass --accept ID, --reject ID or --edit ID"),
        (["--by", WHO, "--accept", "z009"], "there is no lesion 'z009'; there are: z004"),
        (["--by", WHO, "--accept", "z004", "--reject", "all"], "two decisions on lesion z004"),
        (["--by", WHO, "--edit", "z004"], "--edit ID and --edited-from FOLDER go together"),
        (["--by", WHO, "--edited-from", "there"], "--edit ID and --edited-from FOLDER go together"),
        (["--by", WHO, "--edit", "z004", "--edited-from", "nowhere"], "posterior.nc"),
    ],
)
def test_refusals_on_the_command_line_are_one_sentence(folder, capsys, options, part):
    assert main(["sign", str(folder), *options]) == 2
    said = capsys.readouterr().err
    assert part in said
    assert said.count("\n") == 1
    assert not (folder / "signatures.jsonl").exists()
