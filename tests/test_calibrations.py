"""Is a calibration kept whole, used on what it is for alone, and held to what it promises?"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace as with_
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from flax import nnx

import aistat_jax as aj
from aistat_jax._errors import InputError, InputWarning
from aistat_jax._record import replace
from aistat_jax.boundary.networks import seen_in_output
from aistat_jax.calibrations import (
    Calibration,
    digest_of,
    load_calibration,
    save_calibration,
)
from aistat_jax.cli import main
from aistat_jax.nets.head_training import seen_place
from aistat_jax.nets.output_head import SUV, OutputHead
from aistat_jax.nets.ray_head import RayHead
from aistat_jax.nets.weights import weights_of
from aistat_jax.uncertainty.conformal import ConformalBand
from aistat_jax.uncertainty.contour import contour_of
from aistat_jax.uncertainty.risk_control import GreenRule
from tests.helpers import make_posterior

BAND = ConformalBand(1.5, 0.95, 0.95, "band", "mm", "lesion", 20, 40)
RULE = GreenRule(0.9, 0.05, "lesion", 0.0, 0.5, 20, 40, 3.0, "mm")


@cache
def a_calibration() -> Calibration:
    """With a head that has learned nothing: the network's own edge, give or take 8%."""
    head = OutputHead("theirs", "probability", ("PT",), ("SUV",), (SUV,))
    weights = weights_of(nnx.state(RayHead(head.head_inputs)))
    card = {"measured": {"rays": 0.5}, "limits": "None."}
    return Calibration(with_(head, head=weights), BAND, RULE, card=card)


def a_disc(**channels: float) -> tuple[aj.Image, np.ndarray]:
    """An image with noise and a disc of radius 12 mm, and a network's probability of it."""
    i, j = np.indices((40, 40))
    p = 1 / (1 + np.exp(np.hypot(i - 20, j - 19) - 6.0))[..., None]
    rng = np.random.default_rng(0)
    images = {name: level * p + rng.normal(1, 0.1, p.shape) for name, level in channels.items()}
    return aj.Image.from_arrays(spacing_mm=2.0, **images), p


def test_a_calibration_comes_back_from_its_folder(tmp_path):
    one = with_(a_calibration(), label=2, digests=("ab",))
    save_calibration(one, tmp_path / "cal")
    again = load_calibration(save_calibration(one, tmp_path / "cal"))
    assert (again.band, again.rule, again.label, again.digests) == (BAND, RULE, 2, ("ab",))
    assert vars(with_(again.head, head=None)) == vars(with_(one.head, head=None))
    for name, array in (one.head.head or {}).items():
        np.testing.assert_array_equal((again.head.head or {})[name], array)
    page = (tmp_path / "cal" / "MODEL_CARD.md").read_text()
    assert "| rays | 0.5 |" in page
    assert "no guarantee in finite samples" in page
    assert one.band.promise not in page
    exact = with_(one, card=one.card | {"settings": {"split": True}})
    page = (save_calibration(exact, tmp_path / "cal") / "MODEL_CARD.md").read_text()
    assert "no guarantee" not in page
    for words in ("With probability 0.95 or more one of a new patient's contours whose centre lies "
                  "in what was drawn", "green and wrong is at most 0.05",
                  "that of one slice, held against what one reader drew"):  # fmt: skip
        assert words in page


def test_a_folder_that_is_no_calibration_or_of_another_version_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no calibration"):
        load_calibration(tmp_path)
    with pytest.raises(InputError, match="exists and holds no calibration"):
        save_calibration(a_calibration(), tmp_path)
    folder = save_calibration(a_calibration(), tmp_path / "cal")
    file = folder / "calibration.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {"schema": 9, "version": "9.9"}))
    with pytest.raises(InputError, match="schema 9, of version 9.9, and only"):
        load_calibration(folder)
    file.write_text(json.dumps(said | {"channels": ["PT", "CT"]}))
    with pytest.raises(InputError, match="of another plan"):
        load_calibration(folder)
    file.write_text(json.dumps({n: v for n, v in said.items() if n != "band"}))
    with pytest.raises(InputError, match="not whole"):
        load_calibration(folder)
    band, rule = said["band"], said["rule"]
    weird = [said["normalisations"][0] | {"kind": "weird"}]
    for bad, words in (
        ({"label": 0}, "the label 0"),
        ({"label": float("inf")}, "the label inf"),
        ({"label": "1"}, "the label 1"),
        ({"band": band | {"coverage": 5.0}}, "the coverage 5"),
        ({"band": band | {"margin": -1.0}}, "the margin -1"),
        ({"rule": rule | {"rate": 2.0}}, "the rate 2"),
        ({"rule": rule | {"tolerance": -3.0}}, "the tolerance -3"),
        ({"normalisations": weird}, "not whole"),
    ):
        file.write_text(json.dumps(said | bad))
        with pytest.raises(InputError, match=words):
            load_calibration(folder)
    file.write_text(json.dumps(said))
    for card in ([], {"measured": []}, {"settings": 1}):
        (folder / "card.json").write_text(json.dumps(card))
        with pytest.raises(InputError, match=r"card.json is no card"):
            load_calibration(folder)
    # negative control: nothing of it is refused as it was
    (folder / "card.json").write_text(json.dumps({}))
    assert load_calibration(folder).band == BAND


def test_a_segment_is_read_by_the_number_of_the_calibrations_label(tmp_path, capsys):
    """A SEG of several, of which a calibration of one label needs no option to choose."""
    pytest.importorskip("highdicom", reason="the extra dicom is not installed")
    from aistat_jax.dicom.segmentations import Segment, write_segmentation
    from tests.dicom.made import SHAPE, save_series

    image = aj.read_image(PT=save_series(tmp_path / "pt"))
    p = np.zeros(SHAPE)
    p[5:9, 5:9, 3:6] = 0.9
    segments = [Segment("GTV", p), Segment("node", p / 2)]
    seg = write_segmentation(tmp_path / "seg.dcm", segments, image.primary)
    for label, most in ((1, 0.9), (2, 0.45)):
        said = pytest.warns(InputWarning, match="number 1 is read, GTV")
        with said if label == 1 else nullcontext():
            odds = with_(a_calibration(), label=label).log_odds(seg, image)
        assert odds.max() == pytest.approx(np.log(most / (1 - most)), abs=0.03)
    save_calibration(with_(a_calibration(), label=3), tmp_path / "cal")
    asked = ["contour", str(tmp_path / "pt"), "--out", str(tmp_path / "out")]
    asked += ["--probability", str(seg), "--calibration", str(tmp_path / "cal")]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert "seg.dcm: no one segment 3; there are: 1 GTV, 2 node" in said
    assert "--" not in said.replace(str(tmp_path), "")  # no option would help
    assert not (tmp_path / "out").exists()


def test_an_output_is_contoured_with_the_band_and_tolerance_of_its_calibration(tmp_path):
    image, p = a_disc(PT=4.0)
    settings = aj.Settings(draws=200)
    case = aj.contour(image, probability=p, calibration=a_calibration(), settings=settings)
    plain = aj.simultaneous_band(case[0].posterior)
    assert case[0].band.kind == "conformal"
    assert case[0].grade.tolerance == 3.0
    assert case.settings.level == 0.95
    upper = case[0].band.upper - plain.centre
    np.testing.assert_allclose(upper, 1.5 * (plain.upper - plain.centre))
    # the level is the calibration's own where nobody says one
    at90 = with_(a_calibration(), band=with_(BAND, coverage=0.9, level=0.9))
    case = aj.contour(image, probability=p, calibration=at90, settings=settings)
    assert (case[0].band.kind, case[0].band.level, case.settings.level) == ("conformal", 0.9, 0.9)
    # at another the band is the model's own, and says so
    other = aj.Settings(draws=200, level=0.8)
    loose = aj.contour(image, probability=p, calibration=a_calibration(), settings=other)
    assert (loose[0].band.kind, loose[0].band.level) == ("simultaneous", 0.8)
    said = " ".join(loose[0].grade.reasons)
    assert "nothing of bands at 0.8; it was made at 0.95" in said


def test_green_is_held_to_the_rule():
    sure = contour_of(make_posterior(axes=(14.0, 12.0), sd=0.01), tolerance_mm=3.0)
    assert sure.grade.case == "green"
    assert a_calibration().hold(sure).grade.case == "green"
    strict = with_(a_calibration(), rule=with_(RULE, threshold=1.0))
    assert strict.hold(sure).grade.case == "amber"
    other = contour_of(make_posterior(sd=0.01), tolerance_mm=4.0)
    assert other.grade.case == "green"
    held = a_calibration().hold(other).grade
    assert held.case == "amber"
    said = " ".join(held.reasons)
    assert "promises nothing of green at 4 mm; it was made at 3 mm" in said


def test_green_is_not_had_by_a_tolerance_of_more_than_a_quarter_of_the_radius():
    for axes, case in (((14.0, 11.0), "green"), ((11.0, 9.0), "amber")):
        sure = contour_of(make_posterior(axes=axes, sd=0.01), tolerance_mm=3.0)
        assert sure.grade.case == "green"
        held = a_calibration().hold(sure).grade
        assert held.case == case
        assert ("a quarter of this contour's radius" in " ".join(held.reasons)) == (case == "amber")


def test_a_calibration_refuses_what_it_is_not_for():
    ours, (image, p) = a_calibration(), a_disc(PT=4.0)

    def refused(words: str, picture: aj.Image = image, **more) -> None:
        given = {"probability": p, "calibration": ours} | more
        with pytest.raises(InputError, match=words):
            aj.contour(picture, **given)

    refused("is for images of PT, and this one has CT", a_disc(CT=4.0)[0])
    refused("is for images of PT, and this one has PT and T1", a_disc(PT=4.0, T1=1.0)[0])
    refused("for images in mm, and this one is in px", aj.Image.from_arrays(PT=image["PT"].values))
    counts = aj.Image.of(replace(image["PT"], quantity="a.u."))
    refused("is for PT in SUV, and this one is in a.u.", counts)
    known = with_(ours, digests=(digest_of(image),))
    refused("is one of those that the calibration of theirs was learned from", calibration=known)
    # negative control: by its voxels, and another image is let through
    assert digest_of(aj.Image.of(replace(image["PT"], name="other"))) in known.digests
    known.refuse_known(a_disc(PT=5.0)[0])
    refused("this is a mask and no more", probability=(p > 0.5) * 1.0)
    refused("finds nothing", probability=0.4 * p)
    refused("pass both, or calibrate", probability=None)
    refused("pass both, or calibrate", calibration=None)
    refused("drop `net`", net="lesion-pet-2d")
    refused("targets that its network finds; drop `mask`", mask=p > 0.5)
    refused("`calibration` finds the target itself; drop `threshold`", threshold=1.0)
    refused("`calibration` reads contours slice by slice", dims=3)


def test_targets_are_found_where_a_head_has_learned_to_start():
    """A shoulder of at least half of the peak's probability belongs to the region, as it did when
    the head learned; what is likelier than not, by itself, is smaller."""
    image, _ = a_disc(PT=4.0)
    i, j = np.indices((40, 40))
    distance = np.hypot(i - 20, j - 19)
    p = np.select([distance < 5, distance < 8], [0.6, 0.35], 0.02)[..., None]
    ours = a_calibration()
    odds = ours.log_odds(p, image)
    seen = seen_in_output(ours.head, image, odds)
    _, radius = seen_place(seen.field, distance < 6, image.primary.grid.plane(0))
    (target,) = seen.targets
    assert target.radius == pytest.approx(radius)
    assert target.radius > 1.4 * np.sqrt((p > 0.5).sum() / np.pi) * 2.0


def test_an_output_is_contoured_from_a_terminal(tmp_path, capsys):
    image, p = a_disc(PT=4.0)
    folder = save_calibration(a_calibration(), tmp_path / "cal")
    for name, values in (("pet", image["PT"].values), ("p", p)):
        nib.save(nib.Nifti1Image(values, image["PT"].grid.affine), tmp_path / f"{name}.nii.gz")
    arguments = ["contour", str(tmp_path / "pet.nii.gz"), "--out", str(tmp_path / "out")]
    arguments += ["--probability", str(tmp_path / "p.nii.gz"), "--draws", "200"]
    assert main(arguments) == 2
    assert "--probability is read together with --calibration" in capsys.readouterr().err
    assert main([*arguments, "--calibration", str(folder), "--dims", "3"]) == 2
    assert "--calibration reads contours slice by slice; drop --dims" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--calibration", str(folder)]) == 0
    assert "95% band" in capsys.readouterr().out
    inputs = json.loads((tmp_path / "out" / "summary.json").read_text())["inputs"]
    assert "calibration of theirs" in inputs
