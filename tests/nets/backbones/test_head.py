"""Does a contour head learn from the features of another backbone than the U-Net?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.nets.edge_law import RAYS
from aistat_jax.nets.edges import edge_at, feature_field, unroll
from aistat_jax.nets.head_training import HeadSettings, Unrolled, train_head
from aistat_jax.nets.weights import load_net, save_net, untrained
from aistat_jax.space.image import Image
from tests.nets.backbones.test_backbones import small
from tests.nets.cases import tiny_plan

ROUGH = 8.0  # px, of every target


@pytest.mark.slow
def test_a_head_learns_where_a_vnet_sees_an_edge(tmp_path):
    """Its loss of ellipses falls; the network keeps it, and one with other features refuses it."""
    a = small("vnet")
    plan = dataclasses.replace(tiny_plan(), architecture=a, patch=(32, 32), unit="px").check()
    net, rng, targets = untrained(plan, 1), np.random.default_rng(0), {}
    u, v = np.indices((32, 32)) - 15.5
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    for n, turn in enumerate(rng.uniform(0, 2 * np.pi, 4)):
        edge = ROUGH * np.exp(0.3 * np.cos(2 * np.arctan2(v, u) + turn))
        values = 5.0 * (np.hypot(u, v) < edge) + 0.3 * rng.standard_normal(u.shape)
        field = feature_field(net, Image.from_arrays(PT=values))
        plane = field.grid.plane(0)
        read, log_radius = unroll(field, plane, plane.points()[15:17, 15:17].mean((0, 1)), ROUGH)
        drew = 0.3 * np.cos(2 * angles + turn)[None].astype(np.float32)
        one, none = np.ones((), np.float32), np.zeros((), np.float32)
        size = np.asarray(log_radius, np.float32)
        found = Unrolled(read.astype(np.float16), size, drew, one[None], one, none)
        targets[str(n)] = [found]
    losses: list[float] = []
    settings = HeadSettings(steps=101, folds=0)
    net = train_head(net, targets, settings, lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    field = dataclasses.replace(field, net=net)
    assert edge_at(field, plane, np.full(2, 15.5), ROUGH).mean.shape == (RAYS,)

    save_net(net, tmp_path / "net")
    plain = dataclasses.replace(plan, architecture=dataclasses.replace(a, widths=(2, 6)))
    save_net(dataclasses.replace(untrained(plain), head=net.head), tmp_path / "other")
    assert load_net(tmp_path / "net").head_inputs == 2 * a.widths[0] + 1
    with pytest.raises(InputError, match="weights are of another plan"):
        load_net(tmp_path / "other")
