"""Does a head of few numbers start from the network's edge, and turn with the rays?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax.nets.contour_head import AMPLITUDE, POSITIONS
from aistat_jax.nets.edge_law import RAYS
from aistat_jax.nets.ray_head import RayHead, log_prior, ray_signs
from aistat_jax.nets.recalibration import Errors, spread_margin

ANGLES = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
LAW = jax.jit(lambda head, x, log_radius: head(x, log_radius))


def looks(network: np.ndarray, image: np.ndarray, level: float = 0.0) -> jnp.ndarray:
    """An image with one edge, and log-odds with another. Shapes: (ray,) log radii."""
    far = POSITIONS - image[:, None], POSITIONS - network[:, None]
    bright = level + 1 / (1 + np.exp(20 * far[0]))
    return jnp.asarray(np.stack([bright, -30 * far[1]], axis=-1)[None], jnp.float32)


def test_without_learning_the_edge_is_the_networks_own_and_turns_with_the_rays():
    network = 0.1 + 0.15 * np.cos(2 * ANGLES)
    x, log_radius = looks(network, 0.0 * ANGLES), jnp.full(1, 2.0)
    said = LAW(RayHead(2), x, log_radius)
    np.testing.assert_allclose(said.mean[0], network, atol=1e-4)
    np.testing.assert_allclose(said.amplitude, AMPLITUDE, rtol=1e-5)
    head = RayHead(2)
    state = nnx.state(head)
    rng = np.random.default_rng(0)
    nnx.update(head, jax.tree.map(lambda v: jnp.asarray(rng.normal(0, 0.2, v.shape)), state))
    assert float(log_prior(head)) < float(log_prior(RayHead(2)))
    there, turned = LAW(head, x, log_radius), LAW(head, jnp.roll(x, 5, axis=1), log_radius)
    for part in ("mean", "amplitude", "noise"):
        moved = np.roll(getattr(there, part), 5, axis=1)
        np.testing.assert_allclose(getattr(turned, part), moved, atol=1e-4)
    # negative control: its law is not the same on every ray
    assert np.ptp(there.amplitude) > 1e-3


def test_the_image_says_where_its_own_edge_is_whichever_side_is_bright():
    network, image = 0.0 * ANGLES, 0.2 + 0.1 * np.cos(ANGLES)
    for sign in (1.0, -1.0):
        x = looks(network, image, level=0.5)
        signs = ray_signs(x.at[..., 0].multiply(sign), jnp.full(1, 2.0))
        for n in (0, 1):
            edge = signs.size[0, n] + signs.shape[0, :, 2 + n]
            np.testing.assert_allclose(edge, image, atol=0.08)
    # negative control: where nothing is seen it says nothing
    flat = ray_signs(x.at[..., 0].set(0.5), jnp.full(1, 2.0))
    np.testing.assert_allclose(flat.size, 0.0, atol=1e-5)


def test_a_region_whose_centre_is_dark_has_the_edge_beyond_it_and_no_edge_is_the_rough_radius():
    ring = np.where((POSITIONS > -1.0) & (POSITIONS < 0.2), 1.0, -1.0)
    far = np.where(POSITIONS > 0.5, 1.0, -1.0)  # another's, beyond the rough radius
    kinds = np.stack([ring, np.full_like(ring, -1.0), far, ring])
    odds = np.repeat(kinds, RAYS // 4, axis=0)
    x = jnp.asarray(np.stack([0 * odds, odds], axis=-1)[None], jnp.float32)
    edge = ray_signs(x, jnp.full(1, 2.0)).edge[0]
    np.testing.assert_allclose(edge[:: RAYS // 4], [0.2, 0.0, 0.0, 0.2], atol=0.1)


def errors_of_patients(patients: int, sd: float, shift: float = 0.0) -> Errors:
    rng = np.random.default_rng(1)
    error = shift + sd * rng.standard_normal((patients, RAYS))
    parts, inverse = np.full((patients, RAYS, 3), 1 / 3), np.zeros((patients, RAYS, RAYS))
    names = np.arange(patients).astype(str)
    return Errors(error, parts, inverse, np.full((patients, 3), 1e6), names, np.zeros(patients))


def test_a_margin_widens_by_errors_left_out_and_moves_nothing():
    location, log_scale, skew, _ = spread_margin(errors_of_patients(60, 1.5, shift=0.4))
    assert (location, skew) == (0.0, 0.0)
    assert log_scale > 0.15
    # of few patients little is believed, and where none is needed there is none
    assert abs(spread_margin(errors_of_patients(3, 1.5))[1]) < log_scale
    assert np.abs(spread_margin(errors_of_patients(60, 1.0))).max() < 0.2
