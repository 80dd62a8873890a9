"""Is a change drawn as often as stated, and are the rules for a patch nnU-Net's?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._record import replace
from aistat_jax.nets.intensities import vary_intensity
from aistat_jax.nets.variation import NEVER, NO_AUGMENTATION, Sometimes, settings_for
from tests.nets.cases import KEY, QUICK


def test_probabilities_are_kept(rng):
    """Share of examples, and of channels in them; false alarm rate 1e-4 each, binomial."""
    image = jnp.asarray(rng.random((6, 6, 3)), jnp.float32)
    settings = replace(NO_AUGMENTATION, blur_sd=Sometimes(0.4, 0.8, 1.0))
    keys = jax.random.split(KEY, 1000)
    out = jax.jit(
        jax.vmap(lambda key: vary_intensity(key, image, settings)), compiler_options=QUICK
    )(keys)
    changed = np.any(np.asarray(out) != np.asarray(image), axis=(1, 2))
    assert abs(changed.mean() - 0.4 * 0.5) < 4 * np.sqrt(0.4 * 0.25 / 1000)
    assert abs(changed.any(axis=1).mean() - 0.4 * (1 - 0.5**3)) < 4 * np.sqrt(0.25 / 1000)


def test_settings_for_a_patch():
    assert settings_for((64, 64)).rotation_deg.high == 180
    assert settings_for((64, 32)).rotation_deg.high == 15
    assert settings_for((64, 64, 48)).rotation_deg.high == 30
    assert not settings_for((64, 64, 48)).planar
    assert settings_for((96, 96, 24)).planar
    assert NO_AUGMENTATION.zoom == NEVER
