"""Do recipes keep patients apart, and are the shipped networks what their cards say?"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit, logit

from aistat_jax._errors import InputError
from aistat_jax.data.collections import data_root, lung_nodules, sarcoma_patients
from aistat_jax.nets.edges import FeatureField, feature_field
from aistat_jax.nets.head_training import HeadSettings, nothing_in, seen_place, targets_in
from aistat_jax.nets.recipes import PARTS, PHANTOMS, RECIPES, part_of, varied_phantom
from aistat_jax.nets.weights import SHIPPED, load_net, shipped_nets, untrained
from aistat_jax.space.grid import Grid
from tests.helpers import make_image
from tests.nets.cases import tiny_plan


def test_a_patient_is_in_one_part_for_good():
    names = [f"patient{n}" for n in range(600)]
    shares = (0.5, 0.2, 0.3)
    parts = [part_of(name, shares) for name in names]
    assert parts == [part_of(name, shares) for name in names]
    assert part_of("STS_002", shares) == "head"  # it must not move between versions
    for part, share in zip(PARTS, shares, strict=True):
        assert abs(parts.count(part) / 600 - share) < 0.07  # 3.5 sd of a share
    seeds = [set(PHANTOMS[part]) for part in PARTS]
    assert len(set.union(*seeds)) == sum(map(len, seeds))


def test_collections_that_are_not_there_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("AISTAT_DATA", raising=False)
    with pytest.raises(InputError, match="pass the folder .* or set AISTAT_DATA"):
        data_root()
    for read in (sarcoma_patients, lambda root: lung_nodules(root, "val")):
        with pytest.raises(InputError, match="see data_cards"):
            read(tmp_path)


def test_phantoms_vary_and_repeat():
    first, again, other = varied_phantom(5), varied_phantom(5), varied_phantom(6)
    np.testing.assert_array_equal(first.image["PT"].values, again.image["PT"].values)
    assert first.settings != other.settings
    assert first.mask.any()


def disc(radius: float, centre: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    u, v = np.indices(shape)
    return np.hypot(u - centre[0], v - centre[1]) <= radius


def test_targets_are_unrolled_about_their_place_with_every_readers_edge():
    """Two readers of one disc, a third who saw nothing; 2 mm voxels. The network sees a disc of
    its own there, and another elsewhere that is none of theirs."""
    grid = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (48, 48, 1))
    masks = np.stack(
        [disc(8, (24, 22), (48, 48)), disc(10, (24, 22), (48, 48)), disc(-1, (0, 0), (48, 48))], -1
    )
    values = np.indices((48, 48))[0][:, :, None, None] * np.ones(3)
    seen = disc(7, (25, 22), (48, 48)) | disc(6, (8, 40), (48, 48))
    values[..., 0, -1] = np.where(seen, 3.0, -3.0)
    values[8, 40, 0, -1] = 5.0
    field = FeatureField(values.astype(np.float32), grid, untrained(tiny_plan()))
    middle, radius = seen_place(field, masks.any(axis=-1), grid.plane(0))
    np.testing.assert_allclose(grid.plane(0).to_index(middle), [25, 22], atol=1e-9)
    assert radius == pytest.approx(14, rel=0.03)
    settings = HeadSettings(copies=40)
    found = targets_in(field, masks, grid.plane(0), np.random.default_rng(0), settings)
    assert len(found) == 40
    for target in found:
        np.testing.assert_array_equal(target.drew, [1, 1, 0])
        assert float(target.presence) == pytest.approx(2 / 3)
        # the mean exit of a disc seen from a little off its centre is nearly its radius
        radius = math.exp(float(target.log_radius))
        exits = radius * np.exp(np.asarray(target.edges)).mean(axis=1)
        assert exits[0] == pytest.approx(8, rel=0.15)
        assert exits[1] == pytest.approx(10, rel=0.15)
        # the feature is the first index: it grows along ray 0 and falls along the opposite one
        along = np.asarray(target.features)[[0, 32], :20, 0].astype(float)
        assert (np.diff(along[0]) > 0).all()
        assert (np.diff(along[1]) < 0).all()
    # the first is where the network sees it; the others stray as they are told to
    assert math.exp(float(found[0].log_radius)) == pytest.approx(7, rel=0.03)
    spread = np.std([float(t.log_radius) for t in found])
    assert 0.18 < spread < 0.45
    assert [float(t.astray) for t in found] == [0.0] + 39 * [1.0]
    # one of three drew a few pixels, too few for an edge: it is there to a third all the same
    few = np.stack([disc(1, (24, 22), (48, 48)), *np.zeros((2, 48, 48), bool)], axis=-1)
    (small, *_) = targets_in(field, few, grid.plane(0), np.random.default_rng(0), settings)
    assert float(small.presence) == pytest.approx(1 / 3)
    assert not small.drew.any()
    nobody = np.zeros_like(few)
    assert targets_in(field, nobody, grid.plane(0), np.random.default_rng(0), settings) == []


def test_a_field_has_no_chequers_and_keeps_slopes(monkeypatch):
    grid = Grid(np.eye(4), (16, 16, 1))
    i, j = np.indices((16, 16))
    maps = np.stack([(-1.0) ** (i + j), (-1.0) ** i, i + 2.0 * j], axis=-1)[:, :, None]
    read = (SimpleNamespace(grid=grid), maps, maps[..., :1])
    monkeypatch.setattr("aistat_jax.nets.edges.maps", lambda net, image, member: read)
    field = feature_field(untrained(tiny_plan()), make_image(16))
    inner = field.values[1:-1, 1:-1]
    np.testing.assert_allclose(inner[..., :2], 0.0, atol=1e-6)
    np.testing.assert_allclose(inner[..., 2], maps[1:-1, 1:-1, :, 2], atol=1e-5)
    # log-odds are left alone
    np.testing.assert_allclose(field.values[..., 3], maps[..., 0], atol=1e-6)


def test_a_field_holds_every_members_features_and_the_odds_of_their_mean_probability():
    first, second = (untrained(tiny_plan(), seed) for seed in (0, 1))
    image = make_image(16)
    both = feature_field(replace(first, members=first.members + second.members), image)
    one, other = (feature_field(net, image) for net in (first, second))
    width = one.values.shape[-1] - 1
    np.testing.assert_array_equal(both.values[..., :width], one.values[..., :-1])
    np.testing.assert_array_equal(both.values[..., width:-1], other.values[..., :-1])
    p = np.mean([expit(field.values[..., -1].astype(float)) for field in (one, other)], axis=0)
    np.testing.assert_allclose(both.values[..., -1], logit(p), atol=1e-5)
    assert both.values.shape[-1] == both.net.head_inputs
    assert np.abs(one.values - other.values).max() > 0.1


def test_a_place_with_nothing_is_far_from_what_was_drawn():
    grid = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (48, 48, 1))
    masks = disc(8, (24, 22), (48, 48))[..., None]
    place = np.stack([*np.indices((48, 48)), np.zeros((48, 48))], axis=-1)[:, :, None]
    field = FeatureField(place.astype(np.float32), grid, untrained(tiny_plan()))
    rng = np.random.default_rng(0)
    for _ in range(20):
        nothing = nothing_in(field, masks, grid.plane(0), 8.0, rng)
        assert nothing is not None
        assert not nothing.drew.any()
        assert float(nothing.presence) == 0
        near = np.asarray(nothing.features)[:, 0, :2].astype(float).max(axis=0)
        assert np.hypot(*(near - [24, 22])) > 8 + 1.5 * 4 - 1  # 1.5 radii of 8 mm, 2 mm a voxel
    everywhere = np.ones((48, 48, 1), bool)
    assert nothing_in(field, everywhere, grid.plane(0), 8.0, rng) is None


def test_shipped_networks_are_small_and_say_what_they_are():
    assert set(shipped_nets()) == set(RECIPES)
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12e6
    for name, recipe in RECIPES.items():
        net = load_net(name)
        assert net.plan == recipe.plan
        assert len(net.members) == recipe.members
        assert net.head is not None
        for key in ("data", "licence", "command", "scores", "settings", "limits"):
            assert net.card[key], (name, key)
        assert name in net.card["command"]
        assert (SHIPPED / name / "MODEL_CARD.md").is_file()
