"""Is every component of a mask in space a target or named, and compared with its own?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case as case_module
from aistat_jax.inference.finish import finished
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import linked, unlinked
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image, channel_from_array
from tests.helpers import TRUSTED

GRID = Grid(np.diag([2.0, 2.0, 2.5, 1.0]), (64, 40, 22))
BIG, SMALL, OTHER = ([30.0, 40.0, 27.5], 15.0), ([74.0, 40.0, 27.5], 10.0), ([108.0, 40, 27.5], 9.0)


def ball(centre, radius: float) -> np.ndarray:
    return np.linalg.norm(GRID.points() - centre, axis=-1) <= radius


TWO = ball(*BIG) | ball(*SMALL)
SPECK = np.zeros(GRID.shape, dtype=bool)
SPECK[2:4, 2:4, 3] = True
MASK, REFERENCE = TWO | SPECK, TWO | ball(*OTHER)


def near(models, settings) -> list[Posterior]:
    """Stands in for fits: draws about 1 mm to both sides of each target's outline."""
    noise = np.random.default_rng(0).standard_normal((1, settings.draws, 1))
    found = []
    for model in models:
        values = model.chart.values_of(model.target.outline)
        shift = noise / (model.target.radius if model.chart.link == "log" else 1.0)
        drawn = linked(model.chart.link, unlinked(model.chart.link, values) + shift)
        found.append(
            finished(model, {"radii": np.asarray(drawn)}, TRUSTED, "laplace", settings.seed, 0.0,
                     look=False)
        )  # fmt: skip
    return found


@pytest.fixture
def image() -> Image:
    noise = np.random.default_rng(1).standard_normal(GRID.shape)
    return Image.of(channel_from_array(1 + 3 * REFERENCE + 0.3 * noise, GRID.affine, name="PT"))


@pytest.fixture
def ask(monkeypatch):
    monkeypatch.setattr(case_module, "_fit", near)
    return {"dims": 3, "settings": aj.Settings(draws=200)}


@pytest.mark.parametrize("chart", ["star", "offset"])
def test_every_component_is_a_target_or_named_and_has_its_own_reference(image, ask, chart):
    case = aj.contour(image, mask=MASK, chart=chart, reference=REFERENCE, **ask)
    assert [one.id for one in case] == ["target.1", "target.2"]
    ((name, why),) = case.skipped
    assert name == "target.3"
    assert "does not show the surface of a lesion" in why
    for one, (centre, radius) in zip(case, (BIG, SMALL), strict=True):
        np.testing.assert_allclose(one.reference.points.mean(axis=0), centre, atol=1.0)
        assert one.reference.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.1)
        assert one.chart.inside(one.posterior.estimate[None], np.array([centre])).all()
        assert one.content.mean == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.1)
    # what nobody contoured is compared with too: half of the smaller ones is missing
    share = 2 * TWO.sum() / (TWO.sum() + REFERENCE.sum())
    assert case.agreement.dice == pytest.approx(share, abs=0.03)
    assert (case.agreement.slices_compared, case.agreement.band_share) == (2, 1.0)
    # the control: bands do not hold what lies 6 mm beside
    beside = np.roll(REFERENCE, 3, axis=0)
    away = aj.contour(image, mask=MASK, chart=chart, reference=beside, **ask)
    assert away.agreement.band_share == 0


def test_which_kind_of_boundary_is_chosen_for_each_is_said(image, ask):
    case = aj.contour(image, mask=MASK, chart="auto", **ask | {"dims": "auto"})
    assert [one.id for one in case] == ["target.1", "target.2"]
    assert [name for name, *_ in case.charts] == ["target.1", "target.2"]
    assert case.chosen[0] == 3
    assert [name for name, _ in case.skipped] == ["target.3"]


def test_a_map_of_several_labels_is_no_mask_and_no_reference(image, ask):
    """As a union targets that touch would be one, and of a reference but one label be met."""
    labels = ball(*BIG) + 2 * ball(*SMALL)
    for asked in ({"mask": labels}, {"mask": TWO, "reference": labels}):
        with pytest.raises(aj.InputError, match="holds the values 0, 1, 2; mark the one region"):
            aj.contour(image, **asked, **ask)
    with pytest.raises(aj.InputError, match="holds the values"):
        aj.find_targets(image, mask=0.3 * TWO + 0.5 * SPECK, dims=3)
    # one label is one mask, whatever its number
    one = aj.find_targets(image, mask=7 * TWO.astype(np.int16), dims=3)
    assert [target.id for target in one] == ["target.1", "target.2"]
