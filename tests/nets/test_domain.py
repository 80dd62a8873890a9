"""Is what a network was not trained on found, and in the right respect, and the rest left alone?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.data.collections import SARCOMA
from aistat_jax.io.nifti import read_image
from aistat_jax.nets.domain import (
    ANATOMY,
    INTENSITY,
    INVERTED,
    SPACING,
    WIDTH,
    Domain,
    Measured,
    load_domain,
    measured_for,
    tones,
)
from aistat_jax.nets.domain_fitting import ALARM, fit_domain
from aistat_jax.nets.edges import ABOUT, about_edge
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.nets.recipes import RECIPES
from aistat_jax.nets.weights import SHIPPED, load_net, save_net, untrained
from aistat_jax.space.image import Image
from tests.nets.cases import tiny_plan

PLAN = tiny_plan()
SHAPE = (36, 32, 3)


def scan(seed: int) -> np.ndarray:
    """Uptake of a body in air with a lesion, as patients differ: (i, j, k) in SUV."""
    rng = np.random.default_rng(seed)
    i, j, _ = np.indices(SHAPE)
    body = (np.hypot((i - 18) / 15, (j - 16) / 13) < 1) * rng.normal(0.8, 0.1)
    lesion = (np.hypot(i - 20, j - 14) < rng.uniform(3, 6)) * np.exp(rng.normal(1.5, 0.3))
    noise = rng.normal(size=SHAPE)
    return np.maximum(body * (1 + 0.15 * noise) + lesion, 0) + 0.01 * np.abs(noise)


def image(seed: int, values: np.ndarray | None = None, factor: float = 1.0) -> Image:
    side = factor * float(np.random.default_rng([seed, 1]).uniform(3.9, 5.5))
    pet = scan(seed) if values is None else values
    return Image.from_arrays(PT=pet, spacing_mm=(side, side, 3.3))


def edges(seed: int, patients: int, each: int, shift: float = 0.0) -> list[tuple[str, np.ndarray]]:
    """Features about edges: those of a patient are alike."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(12, 12))
    found = []
    for n in range(patients):
        own = 0.5 * rng.normal(size=12)
        found += [(f"p{n}", mix @ (own + rng.normal(size=12)) + shift) for _ in range(each)]
    return found


@pytest.fixture(scope="module")
def known() -> Domain:
    images: list[tuple[str, Measured]] = [
        (f"p{n}", measured_for(PLAN, image(n))) for n in range(30)
    ]
    return fit_domain("tiny", images, edges(1, 60, 10), units={"PT": "SUV"})


def respects_of(domain: Domain, plan: Plan, what: Image) -> list[str]:
    return [each.respect for each in domain.of_image(measured_for(plan, what))]


def respects(domain: Domain, what: Image) -> list[str]:
    return respects_of(domain, PLAN, what)


def test_what_is_like_training_is_left_alone(known):
    """200 new cases, of which ALARM may be found fault with: 8 and more have a chance of .1%."""
    assert sum(bool(respects(known, image(1000 + n))) for n in range(200)) < 8


@pytest.mark.parametrize("n", range(1000, 1005))
def test_what_is_unlike_training_is_said_in_the_right_respect(known, n):
    pet = scan(n)
    assert respects(known, image(n, pet[::2, ::2], factor=2)) == [SPACING]
    assert SPACING in respects(known, image(n, factor=2))  # a header that is wrong
    assert respects(known, image(n, pet.max() - pet)) == [INTENSITY]
    hu = 1000.0 * (pet > 0.2) + 40 * pet  # as a CT without its offset
    assert respects(known, image(n, hu)) == [INTENSITY]


def test_a_wide_image_is_no_other_image(known):
    """In mm: air around a body changes its quantiles, and not what a window of it shows."""
    around = np.pad(scan(1000), ((48, 48), (48, 48), (0, 0)), mode="reflect")
    assert respects(known, image(1000, around)) == []


def test_a_sentence_has_the_number_and_what_was_trained_on(known):
    (found,) = known.of_image({SPACING: 8.125})
    assert found.value == 8.125
    assert found.low < 3.9 < 5.5 < found.high < found.value
    (said,) = known.said((found,))
    least, most = (f"{edge:.3g}" for edge in (known.limits[0].least, known.limits[0].most))
    start = (
        f"outside of what the network tiny was trained on: pixels of 8.12 mm, trained on {least}"
    )
    assert said == f"{start} to {most} (taken up to {found.high:.3g})"


def test_features_are_known_by_their_distance_and_patients_left_out_set_it(known):
    """Of 2000 edges of new patients about ALARM lie beyond; shifted ones nearly all."""
    beyond = [bool(known.of_edge(x)) for _, x in edges(2, 200, 10)]
    assert 0.2 * ALARM < np.mean(beyond) < 3 * ALARM
    shifted = [known.of_edge(x) for _, x in edges(2, 20, 10, shift=20.0)]
    assert np.mean([bool(found) for found in shifted]) > 0.95
    assert {found[0].respect for found in shifted if found} == {ANATOMY}
    assert fit_domain("t", [(f"p{n}", {}) for n in range(9)]).of_edge(np.ones(3)) == ()
    with pytest.raises(InputError, match="measure it again"):
        known.of_edge(np.ones(3))


def test_without_a_spacing_the_width_stands_in_for_it():
    def picture(size: int) -> Measured:
        values = np.random.default_rng(size).normal(size=(size, size, 1))
        return measured_for(replace(PLAN, unit="px"), Image.from_arrays(PT=values))

    domain = fit_domain("t", [(f"p{n}", picture(64)) for n in range(9)], unit="px")
    assert not domain.of_image(picture(60))
    assert [each.respect for each in domain.of_image(picture(32))] == [WIDTH]
    assert "crop the image" in domain.of_image(picture(200))[0].text


def test_a_pixel_of_unknown_size_is_no_pixel_that_was_trained_on(known):
    without = Image.from_arrays(PT=scan(1000))
    (said,) = known.said(known.of_image(measured_for(PLAN, without)))
    assert "pixels of unknown size, trained on" in said


def test_a_sample_of_a_volume_is_of_all_of_its_slices():
    """The control: every n-th voxel would all lie in one slice of 316 x 316 x 60."""
    volume = np.full((316, 316, 60), 5.0)
    volume[..., 0] = 1.0
    assert volume.ravel()[:: 1 + volume.size // 100_000].mean() == 1.0
    assert tones(volume, "PT")["quantile PT 0.25"] == 5.0


def test_inverted_tones_are_known_where_a_network_sees_only_deviations():
    """Of 100 new pictures one may be found fault with, and nearly every inverted one must be."""
    plan = replace(PLAN, normalisations=(Normalisation("zscore"),), unit="px")

    def picture(n: int, turned: bool = False) -> Measured:
        values = scan(n)[:, :, :1]
        return measured_for(plan, Image.from_arrays(PT=values), inverted=turned)

    some = range(60)
    images, turned = ([(f"p{n}", picture(n, way)) for n in some] for way in (False, True))
    domain = fit_domain("t", images, inverted=turned, unit="px", units={"PT": "sd"})
    found = [domain.of_image(picture(n, True)) for n in range(1000, 1030)]
    assert np.mean([INVERTED in {each.respect for each in one} for one in found]) > 0.95
    assert sum(bool(domain.of_image(picture(n))) for n in range(1000, 1100)) < 9
    own = Image.from_arrays(PT=scan(1000)[:, :, :1].max() - scan(1000)[:, :, :1])
    there, here = (
        domain.of_image(found)[0] for found in (measured_for(plan, own), picture(1000, True))
    )
    assert (there.respect, there.text) == (here.respect, here.text)


def test_features_are_read_about_an_edge():
    """Of a feature that is the log radius itself, the means are those of the edge, shifted."""
    positions, edge = np.linspace(-2.0, 1.5, 36), np.linspace(-0.2, 0.2, 8)
    features = np.broadcast_to(positions[:, None], (8, 36, 1))
    np.testing.assert_allclose(about_edge(features, edge, positions), np.log(ABOUT), atol=1e-6)


def test_a_domain_is_kept_with_its_network(known, tmp_path):
    net = replace(untrained(PLAN), domain=known)
    back = load_net(save_net(net, tmp_path / "net")).domain
    assert back is not None
    assert back.limits == known.limits
    assert back.furthest == known.furthest
    np.testing.assert_allclose(back.whiten, known.whiten, rtol=1e-5)
    save_net(replace(net, domain=None), tmp_path / "net")
    assert load_net(tmp_path / "net").domain is None  # and no file of it is left

    kept = save_net(net, tmp_path / "net") / "domain.json"
    said = json.loads(kept.read_text())
    for wrong in ("{", json.dumps(said | {"limits": 3}), json.dumps(said | {"more": 1})):
        kept.write_text(wrong)
        with pytest.raises(InputError, match="not a whole domain file"):
            load_net(tmp_path / "net")


def test_too_few_patients_say_nothing():
    with pytest.raises(InputError, match="4 patients say too little"):
        fit_domain("t", [(f"p{n}", {}) for n in range(4)])


def test_shipped_networks_know_what_they_were_trained_on():
    """By the numbers alone; what is within all limits is left alone."""
    for name in ("lesion-pet-2d", "lesion-pet-3d", "nodule-ct-2d", "phantom-petct-2d"):
        domain = load_domain(SHIPPED / name)
        assert domain is not None
        assert len(domain.mean) > 0
        assert domain.of_edge(domain.mean) == ()
        usual = {each.name: (each.low + each.high) / 2 for each in domain.limits}
        bare = replace(domain, upright={})
        assert bare.of_image(usual) == ()
        for each in domain.limits:
            (found,) = bare.of_image(usual | {each.name: each.low - 1.0})
            assert found.respect == each.respect
    pet = load_domain(SHIPPED / "lesion-pet-2d")
    assert pet is not None
    (coarse,) = pet.of_image({SPACING: 8.1})
    assert coarse.text == "pixels of 8.1 mm, trained on 3.91 to 5.47 (taken up to 6.84)"


@pytest.mark.parametrize("name", ["STS_004", "STS_018", "STS_051"])
def test_patients_left_out_are_left_alone_and_shifted_ones_found_out(name, data_root):
    """Three patients of the validation part."""
    file = data_root / SARCOMA / name / "PET_image.nii.gz"
    if not file.is_file():
        pytest.skip("the sarcoma collection is absent")
    domain, plan = load_domain(SHIPPED / "lesion-pet-2d"), RECIPES["lesion-pet-2d"].plan
    assert domain is not None
    own = read_image(PT=file)
    pet, spacing = own.primary.values, own.primary.grid.spacing.tolist()
    assert respects_of(domain, plan, own) == []
    coarse = Image.from_arrays(PT=pet[::2, ::2, ::2], spacing_mm=[2 * side for side in spacing])
    assert respects_of(domain, plan, coarse) == [SPACING]
    turned = Image.from_arrays(PT=pet.max() - pet, spacing_mm=spacing)
    assert respects_of(domain, plan, turned) == [INTENSITY]
