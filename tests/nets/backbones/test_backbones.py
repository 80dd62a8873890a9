"""Does every backbone give what the rest expects, learn, and refuse what it cannot take?"""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.nets import backbones
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import BACKBONES, Backbone
from aistat_jax.nets.losses import deep_supervision_loss, dice_and_cross_entropy
from aistat_jax.nets.network import build, random_net
from aistat_jax.nets.plan import load_plan, memory_bytes, plan_for, save_plan
from aistat_jax.nets.predict import features, predict
from aistat_jax.nets.weights import load_net, save_net, untrained
from tests.nets.cases import pet, tiny_plan
from tests.nets.test_plan import made

QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
SMALL = {
    "resenc": {"options": (("blocks", (1, 2)),)},
    "vnet": {"options": (("window", 3),)},
    "ukan": {"widths": (4, 4, 6, 6, 8, 8)},
    "transunet": {
        "widths": (4, 4, 4, 4, 8),
        "options": (("grid", 3), ("heads", 2), ("layers", 1), ("mlp", 2), ("units", (1, 1, 1))),
    },
    "iukan": {"widths": (4, 4, 4, 4, 4), "options": (("solver", "midpoint"), ("steps", 1))},
}
SLOW = {"iukan"}  # ten equations, each with two evaluations of its f: half a minute to compile
WHICH = [
    pytest.param(name, dims, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in SMALL
    for dims in BACKBONES[name].dims
]


def small(name: str, dims: int = 2, **changes) -> Architecture:
    settings = {"widths": (4, 6), "options": (), **SMALL[name], **changes}
    strides = ((2,) * dims,) * (len(settings["widths"]) - 1)
    deep = BACKBONES[name].deep
    return Architecture(
        dims, 1, 2, strides=strides, backbone=name, deep_supervision=deep, **settings
    ).check()


def blob(dims: int, a: Architecture) -> tuple[np.ndarray, np.ndarray]:
    """A batch of one bright ball in noise."""
    shape = tuple(2 * m if m > 4 else 4 * m for m in a.multiple)
    rng = np.random.default_rng(0)
    middle = [(n - 1) / 2 - 1 for n in shape]
    inside = sum((i - m) ** 2 for i, m in zip(np.indices(shape), middle, strict=True))
    labels = (inside < (min(shape) / 3.5) ** 2).astype(np.int32)
    x = labels + 0.3 * rng.standard_normal(shape)
    return x[None, ..., None].astype(np.float32), labels[None]


@cache
def learnt(name: str, dims: int) -> tuple[list[float], dict[str, float], tuple[int, ...]]:
    """The loss of each step on one batch, the largest first gradient of each weight, shapes."""
    a = small(name, dims)
    x, labels = blob(dims, a)
    graph, state = nnx.split(random_net(a, 1))
    rule = optax.adam(1e-2)

    def loss(state):
        out = nnx.merge(graph, state)(jnp.asarray(x))
        value = deep_supervision_loss(out.logits, jnp.asarray(labels), dice_and_cross_entropy)
        return value, [v.shape for v in (*out.logits, out.features)]

    shapes = jax.eval_shape(lambda s: nnx.merge(graph, s)(jnp.asarray(x)), state)

    def step(state, moments):
        (value, _), slope = jax.value_and_grad(lambda s: (loss(s)[0], 0.0), has_aux=True)(state)
        move, moments = rule.update(slope, moments)
        sizes = jax.tree.map(lambda g: jnp.abs(g).max(), slope)
        return optax.apply_updates(state, move), moments, value, sizes

    step = jax.jit(step, compiler_options=QUICK)
    moments, losses, first = rule.init(state), [], {}
    for n in range(30):
        state, moments, value, sizes = step(state, moments)
        losses.append(float(value))
        if n == 1:
            first = {
                ".".join(map(str, path)): float(v.get_value())
                for path, v in nnx.to_flat_state(sizes)
            }
    return losses, first, (shapes.logits[0].shape, shapes.features.shape)


@pytest.mark.parametrize(("name", "dims"), WHICH)
def test_it_overfits_one_batch(name, dims):
    losses, _, _ = learnt(name, dims)
    assert losses[-1] < 0.35 * losses[0]


@pytest.mark.parametrize(("name", "dims"), WHICH)
def test_a_gradient_reaches_every_weight(name, dims):
    """But for the bias of a convolution before a norm, which takes it away again, and the bias of
    a transformer's keys, which the softmax does."""
    _, first, _ = learnt(name, dims)
    still = [path for path, size in first.items() if not size > 1e-9]
    assert [path for path in still if not path.endswith(("conv.bias", "seen.1.bias"))] == []
    assert len(first) > 10


@pytest.mark.parametrize(("name", "dims"), WHICH)
def test_it_says_log_odds_and_features_of_the_input_grid(name, dims):
    a = small(name, dims)
    logits, features = learnt(name, dims)[2]
    assert logits == (*blob(dims, a)[0].shape[:-1], 2)
    assert features == (*logits[:-1], a.features)


@pytest.mark.parametrize("name", list(SMALL))
def test_a_plan_and_weights_come_back(name, tmp_path):
    a = small(name)
    plan = dataclasses.replace(tiny_plan(), architecture=a, patch=tuple(2 * m for m in a.multiple))
    net = untrained(plan.check(), 3)
    back = load_net(save_net(net, tmp_path / "net"))
    assert back.plan == plan
    assert json.loads((tmp_path / "net" / "plan.json").read_text())["architecture"]["backbone"]
    assert all(np.array_equal(back.members[0][k], v) for k, v in net.members[0].items())
    assert net.head_inputs == a.features + 1


def test_what_predicts_knows_no_backbone(rng):
    a = small("vnet")
    plan = dataclasses.replace(tiny_plan(), architecture=a, patch=(8, 8)).check()
    image = pet(rng, (8, 12, 1))
    ours, same, other = (
        predict(untrained(plan, seed), image, mirror=False).log_odds for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(ours, same)
    assert not np.allclose(other, ours)
    assert features(untrained(plan), image).shape == (8, 12, 1, 2 * a.widths[0])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in BACKBONES]
)
def test_a_dataset_is_planned_for_every_backbone(name):
    """Within the memory given, in patches its steps divide, of what its line says."""
    found = made(shape=(60, 50, 40), spacing=(1.0, 1.0, 1.0))
    given = {"transunet": (("layers", 1),)}.get(name, ())
    kind = BACKBONES[name]
    dims = kind.dims[-1]
    plan = plan_for(found, dims=dims, base_width=12, memory_gib=2.0, backbone=name, options=given)
    a = plan.architecture
    assert (a.backbone, a.dims) == (name, dims)
    assert kind.steps in (None, len(a.strides))
    assert memory_bytes(a, plan.patch, plan.batch) <= 2 * 2**30
    assert plan.name.endswith("d" if name == "unet" else name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resenc", "vnet"])
def test_a_step_in_3d_takes_the_memory_that_the_plan_states(name):
    """What a compiler plans for it, so nearly that half or twice as much would not pass."""
    options = (("blocks", (1, 2, 2)),) if name == "resenc" else ()
    a = Architecture(
        3, 1, 2, (8, 16, 32), ((2, 2, 2),) * 2, backbone=name, deep_supervision=False,
        options=options,
    )  # fmt: skip
    graph, state = nnx.split(build(a))

    def loss(state, x):
        logits = nnx.merge(graph, state)(x).logits
        return sum(jnp.square(jax.nn.softmax(each)).mean() for each in logits)

    x = jax.ShapeDtypeStruct((2, 48, 48, 48, 1), jnp.float32)
    program = jax.jit(jax.grad(loss)).lower(state, x).compile()
    planned = program.memory_analysis().temp_size_in_bytes
    stated = memory_bytes(a, (48,) * 3, 2) - memory_bytes(a, (48,) * 3, 0)
    assert 0.7 < planned / stated < 1.4


def test_the_memory_of_a_traced_network_is_that_of_the_formula():
    """For the U-Net both are there: they differ by a tenth; twice the batch is twice the memory."""
    for dims, edge in ((2, 64), (3, 32)):
        a = Architecture(dims, 2, 2, (8, 16, 32), ((2,) * dims,) * 2)
        traced = dataclasses.replace(a, options=(("convolutions", (2, 2, 2)),))
        patch = (edge,) * dims
        each = [memory_bytes(b, patch, 1) - memory_bytes(b, patch, 0) for b in (a, traced)]
        assert each[1] == pytest.approx(each[0], rel=0.1)
        assert memory_bytes(traced, patch, 0) == pytest.approx(memory_bytes(a, patch, 0), rel=0.03)
        assert memory_bytes(traced, patch, 2) - memory_bytes(traced, patch, 0) == 2 * each[1]


def test_what_does_not_exist_is_refused_in_a_sentence(monkeypatch):
    a = small("resenc")
    for changes, sentence in (
        ({"backbone": "vgg"}, "unknown `backbone` 'vgg'; use one of unet, resenc"),
        ({"options": (("depth", 3),)}, "resenc has no option 'depth'; it has windows, blocks"),
        (
            {"options": (("blocks", (1, 2, 1)),)},
            r"options of resenc must be of 2 stages, got \[2, 3",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            build(dataclasses.replace(a, **changes))
    flat = Backbone("flat", "nowhere.at_all:Net", dims=(2,), widths=(1.0, 2.0))
    monkeypatch.setitem(backbones.BACKBONES, "flat", flat)
    with pytest.raises(InputError, match=r"flat needs the package nowhere; install aistat_jax"):
        build(Architecture(2, 1, 2, (4, 8), ((2, 2),), backbone="flat"))
    with pytest.raises(InputError, match="flat exists in 2D alone"):
        build(Architecture(3, 1, 2, (4, 8), ((2, 2, 2),), backbone="flat"))
    with pytest.raises(InputError, match="flat takes 1 steps down, got 2 strides"):
        build(Architecture(2, 1, 2, (4, 8, 8), ((2, 2),) * 2, backbone="flat"))


def test_a_patch_too_small_for_the_depth_is_refused():
    plan = tiny_plan(widths=(4, 6, 8), patch=8)
    with pytest.raises(InputError, match=r"\(4, 4\) is too small for 2 steps down"):
        dataclasses.replace(plan, patch=(4, 4)).check()


def test_plans_from_before_there_were_backbones_stay_as_they_are(tmp_path):
    """Not a byte of a shipped plan changes, and another backbone is told from it."""
    from aistat_jax.nets.weights import SHIPPED

    for shipped in SHIPPED.glob("*/plan.json"):
        plan = load_plan(shipped)
        assert plan.architecture.backbone == "unet"
        assert save_plan(plan, tmp_path / "plan.json").read_bytes() == shipped.read_bytes()
        other = dataclasses.replace(plan.architecture, backbone="resenc")
        save_plan(dataclasses.replace(plan, architecture=other), tmp_path / "plan.json")
        assert (tmp_path / "plan.json").read_bytes() != shipped.read_bytes()
        assert load_plan(tmp_path / "plan.json").architecture == other
