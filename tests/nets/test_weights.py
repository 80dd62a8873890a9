"""Does a network come back from disk as it was, and is anything else refused?"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.nets.network import random_net
from aistat_jax.nets.weights import Net, load_net, save_net, untrained
from tests.nets.cases import tiny_plan


def test_a_network_comes_back_bit_for_bit(tmp_path):
    one, two = untrained(tiny_plan(), 1), untrained(tiny_plan(), 2)
    net = Net(one.plan, (*one.members, *two.members), {"data": "none"})
    back = load_net(save_net(net, tmp_path / "net"))
    assert back.plan == net.plan
    assert back.card == {"data": "none"}
    assert len(back.members) == 2
    for ours, other in zip(net.members, back.members, strict=True):
        assert ours.keys() == other.keys()
        assert all(np.array_equal(ours[k], other[k]) for k in ours)
    x = jnp.ones((1, 16, 16, 1))
    direct = random_net(net.plan.architecture, 2)(x).logits[0]
    np.testing.assert_array_equal(nnx.merge(back.graph, back.state(1))(x).logits[0], direct)
    assert not np.allclose(nnx.merge(back.graph, back.state(0))(x).logits[0], direct)
    assert net.parameters == sum(v.size for v in one.members[0].values())


def test_saving_again_replaces_a_network_and_nothing_else(tmp_path):
    folder = save_net(untrained(tiny_plan(), 1), tmp_path / "net")
    again = untrained(tiny_plan(), 2)
    save_net(again, folder)
    key = "encoder.0.first.conv.kernel"
    np.testing.assert_array_equal(load_net(folder).members[0][key], again.members[0][key])
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    other = tmp_path / "notes"
    other.mkdir()
    (other / "diary.txt").write_text("keep me")
    with pytest.raises(InputError, match="holds no network"):
        save_net(again, other)
    assert (other / "diary.txt").read_text() == "keep me"


def test_unusable_networks_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="there is no network 'nothing'"):
        load_net("nothing")
    folder = save_net(untrained(tiny_plan()), tmp_path / "net")
    weights = folder / "member-0.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"member-0\.safetensors: the weights are damaged"):
        load_net(folder)
    other = save_net(untrained(tiny_plan(widths=(4, 6, 10))), tmp_path / "other")
    weights.write_bytes((other / weights.name).read_bytes())
    with pytest.raises(InputError, match="of another plan"):
        load_net(folder)
    net = untrained(tiny_plan())
    net.members[0]["heads.0.bias"] = np.full(2, np.nan, np.float32)
    with pytest.raises(InputError, match="not finite"):
        load_net(save_net(net, tmp_path / "nan"))
    weights.unlink()
    with pytest.raises(InputError, match="no weights"):
        load_net(folder)
