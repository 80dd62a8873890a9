"""Does a network of others say the same here, on the same input and over a whole image?"""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.nets.foreign import Inputs, import_net
from aistat_jax.nets.predict import predict
from aistat_jax.nets.prepare import prepare
from aistat_jax.nets.weights import load_net, save_net
from aistat_jax.space.image import Image

torch = pytest.importorskip("torch", reason="the bench extra is not installed")
CT = Inputs({"CT": "HU"}, ("lesion",), (32, 32), (2.0, 2.0, 3.0), (-150.0, 250.0))
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1, "organ": 2}}
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
ONES = {2: [1, 1], 3: [1, 1, 1]}


def randomised(net, seed):
    """Its weights and norms moved, so that no part is at its neutral start."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in net.parameters():
            noise = rng.standard_normal(tuple(weight.shape)).astype(np.float32)
            weight += 0.05 * torch.from_numpy(noise)
    return net.eval()


def basic_unet(dims=2, features=(4, 4, 6, 6, 8, 4), seed=0, **settings):
    nets = pytest.importorskip("monai.networks.nets", reason="the bench extra is not installed")
    torch.manual_seed(seed)
    return randomised(nets.BasicUNet(dims, 1, 2, features, **settings), seed)


def plans(dims, kind="PlainConvUNet", **changes):
    """plans.json of a small network with coarse slices: its first kernels and steps are flat."""
    flat, cube = ([1, 3, 3], [3, 3, 3]) if dims == 3 else ([3, 3], [3, 3])
    steps = [ONES[dims], [1, 2, 2] if dims == 3 else [2, 2], [2] * dims]
    arguments = {
        "n_stages": 3, "features_per_stage": [4, 6, 8], "kernel_sizes": [flat, cube, cube],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d", "strides": steps, "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d", "dropout_op": None,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        "n_conv_per_stage_decoder": [2, 1] if kind == "PlainConvUNet" else [1, 1],
        "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage": [2, 3, 1],
    }  # fmt: skip
    configuration = {
        "patch_size": [8, 16, 24] if dims == 3 else [24, 16], "batch_size": 2,
        "spacing": [5.0, 1.0, 1.5] if dims == 3 else [1.0, 1.5],
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": arguments | changes,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }  # fmt: skip
    intensities = {"mean": 40.0, "std": 60.0, "percentile_00_5": -150.0, "percentile_99_5": 250.0}
    return {
        "dataset_name": "Dataset007_Liver", "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2], "original_median_spacing_after_transp": [5.0, 1.0, 1.5],
        "configurations": {"full": configuration, "same": {"inherits_from": "full"}},
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }  # fmt: skip


def their_net(of, seed=0):
    """The network that nnU-Net makes of its plans, by its own package of networks."""
    import pydoc

    unet = pytest.importorskip(
        "dynamic_network_architectures.architectures.unet",
        reason="the bench extra is not installed",
    )
    architecture = of["configurations"]["full"]["architecture"]
    arguments = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        arguments[name] = arguments[name] and pydoc.locate(arguments[name])
    torch.manual_seed(seed)
    kind = getattr(unet, architecture["network_class_name"].rsplit(".", 1)[-1])
    return randomised(kind(1, num_classes=3, deep_supervision=True, **arguments), seed)


def saved(net, file, of, **beside):
    """A checkpoint as nnU-Net writes it, with its training curve in NumPy's numbers."""
    content = {
        "network_weights": net.state_dict(), "optimizer_state": {}, "current_epoch": 5,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "lrs": [np.float32(0.1)]},
        "_best_ema": np.float64(0.7), "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
        "init_args": {
            "plans": of, "configuration": "full", "fold": 0, "dataset_json": DATASET,
            "device": torch.device("cpu"),
        },
    }  # fmt: skip
    torch.save(content | beside, file)
    return file


def said(net, x, state=0):
    """Every head's log-odds, finest first, compiled in a hurry."""
    run = jax.jit(lambda s, x: nnx.merge(net.graph, s)(x).logits, compiler_options=QUICK)
    return [np.asarray(v) for v in run(net.state(state), jnp.asarray(x))]


def theirs(net, x, axes):
    """What a network of PyTorch says of our array; axes: for each of its axes ours."""
    back = np.argsort(axes)
    array = np.ascontiguousarray(x.transpose(0, -1, *(1 + a for a in axes)))
    with torch.no_grad():
        found = net(torch.from_numpy(array))
    found = found if isinstance(found, list | tuple) else [found]
    return [each.numpy().transpose(0, *(2 + b for b in back), 1) for each in found]


def agree(ours, wanted, share=1e-3):
    return len(ours) == len(wanted) and all(
        a.shape == b.shape and np.abs(a - b).max() < share * np.abs(b).max()
        for a, b in zip(ours, wanted, strict=True)
    )


@pytest.mark.parametrize("features", [(4, 6, 8, 10, 12, 5)])
def test_a_basic_unet_says_the_same(tmp_path, rng, features):
    net = basic_unet(features=features)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pt")
    ours = load_net(save_net(import_net([tmp_path / "net.pt"], inputs=CT), tmp_path / "net"))
    assert ours.plan.architecture.widths == features[:5]
    assert ours.head_inputs == features[5] + 1
    x = rng.standard_normal((2, 32, 48, 1)).astype(np.float32)
    wanted = theirs(net, x, (0, 1))
    assert agree(said(ours, x), wanted)
    torch.save(basic_unet(features=features, seed=1).state_dict(), tmp_path / "other.pt")
    both = import_net([tmp_path / "net.pt", tmp_path / "other.pt"], inputs=CT)
    assert len(both.members) == 2
    assert not agree(said(both, x, 1), wanted, 0.1)


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_an_nnunet_says_the_same(tmp_path, rng, dims, kind):
    """With flat kernels and steps along slices, on (i, j, k) where nnU-Net reads (z, y, x)."""
    of = plans(dims, kind)
    net = their_net(of)
    ours = load_net(save_net(import_net([saved(net, tmp_path / "c.pth", of)]), tmp_path / "net"))
    a, axes = ours.plan.architecture, (2, 1, 0)[-dims:]
    assert ours.plan.patch == ((24, 16, 8) if dims == 3 else (16, 24))
    assert ours.plan.spacing_mm == (1.5, 1.0, 5.0)
    assert len(a.strides) == 2
    assert a.deep_supervision
    x = rng.standard_normal((1, *ours.plan.patch, 1)).astype(np.float32)
    wanted = theirs(net, x, axes)
    assert agree(said(ours, x), wanted)
    assert len(wanted) == 2  # a deep head for each step
    if dims == 2:  # negative control: with its axes not permuted it is another network
        turned = [v.swapaxes(1, 2) for v in said(ours, x.swapaxes(1, 2))]
        assert not agree(turned, wanted, 0.1)


def test_a_whole_image_says_the_same_in_windows(tmp_path, rng):
    """Against MONAI's sliding windows with Gaussian weights, intensities as they became 0 to 1."""
    inferers = pytest.importorskip("monai.inferers", reason="the bench extra is not installed")
    net = basic_unet()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    ours = import_net([tmp_path / "net.pt"], inputs=CT)
    values = np.clip(rng.normal(0, 200, (48, 32, 2)), -900, 900)
    image = Image.from_arrays(CT=values, spacing_mm=(2.0, 2.0, 3.0))
    found = predict(ours, image, mirror=False).log_odds[..., 0]
    scaled = np.clip((values + 150) / 400, 0, 1).astype(np.float32)
    with torch.no_grad():
        logits = inferers.sliding_window_inference(
            torch.from_numpy(scaled.transpose(2, 0, 1)[:, None].copy()), (32, 32), 2, net,
            overlap=0.5, mode="gaussian", sigma_scale=1 / 8,
        )  # fmt: skip
    wanted = torch.softmax(logits, 1)[:, 1].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), wanted, atol=1e-2)
    raw = replace(ours.plan.normalisations[0], centre=0.0, scale=60.0)
    wrong = replace(ours, plan=replace(ours.plan, normalisations=(raw,)))
    other = predict(wrong, image, mirror=False).log_odds[..., 0]
    assert np.abs(1 / (1 + np.exp(-other)) - wanted).max() > 0.05


@pytest.mark.parametrize("kept", ["written", "left out"])
@pytest.mark.parametrize(
    ("dims", "given", "ours"),
    [(2, None, ()), (2, (0,), (1,)), (2, (1, 0), None), (3, (0,), (2,)), (3, (1, 2), (0, 1))],
)
def test_only_what_the_trainer_allowed_is_mirrored(tmp_path, dims, given, ours, kept):
    """By nnU-Net's axes (z, y, x) on (i, j, k); where it says nothing, none, as nnU-Net has it."""
    of = plans(dims)
    file = saved(their_net(of), tmp_path / "c.pth", of, inference_allowed_mirroring_axes=given)
    if kept == "left out":
        content = torch.load(file, weights_only=False)
        del content["inference_allowed_mirroring_axes"]
        torch.save(content, file)
    net = load_net(save_net(import_net([file]), tmp_path / "net"))
    assert net.plan.mirror_axes == (ours if kept == "written" else ())


def test_mirror_images_are_averaged_as_theirs_are(tmp_path, rng):
    """One window of a plane, upside down along nnU-Net's first axis and not along the other."""
    of = plans(2)
    net = their_net(of)
    file = saved(net, tmp_path / "c.pth", of, inference_allowed_mirroring_axes=(0,))
    ours = import_net([file])
    values = rng.normal(40, 60, (16, 24, 1))
    found = predict(ours, Image.from_arrays(CT=values, spacing_mm=(1.5, 1.0, 5.0)))
    assert found.voices == 2
    x = ((np.clip(values, -150, 250) - 40) / 60).astype(np.float32)[None]

    def mean(axis):
        pair = theirs(net, x, (1, 0))[0], np.flip(theirs(net, np.flip(x, axis), (1, 0))[0], axis)
        share = np.mean([np.asarray(jax.nn.softmax(v, axis=-1)) for v in pair], axis=0)
        return share[0, :, :, None, 1:]

    said = 1 / (1 + np.exp(-found.log_odds))
    np.testing.assert_allclose(said, mean(2), atol=1e-3)
    assert np.abs(said - mean(1)).max() > 1e-2  # negative control: along the other axis


def test_the_plans_preprocessing_is_kept(tmp_path, rng):
    of = plans(3)
    net = import_net([saved(their_net(of), tmp_path / "c.pth", of)])
    values = rng.normal(0, 200, (30, 20, 10))
    seen = prepare(net.plan, Image.from_arrays(CT=values, spacing_mm=(1.5, 1.0, 5.0))).values
    np.testing.assert_allclose(seen[..., 0], (np.clip(values, -150, 250) - 40) / 60, rtol=1e-5)
    fine = prepare(net.plan, Image.from_arrays(CT=values, spacing_mm=(0.75, 1.0, 5.0)))
    np.testing.assert_allclose(fine.grid.spacing, (1.5, 1.0, 5.0))
    of["configurations"]["full"] |= {
        "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [True]
    }  # fmt: skip
    data = DATASET | {"channel_names": {"0": "T1"}}
    (tmp_path / "d.json").write_text(json.dumps(data))
    (tmp_path / "p.json").write_text(json.dumps(of))
    files = {"plans": tmp_path / "p.json", "dataset": tmp_path / "d.json"}
    brain = np.zeros((24, 16, 10))
    brain[4:20, 3:14, 2:9] = rng.normal(500, 50, (16, 11, 7))
    image = Image.from_arrays(T1=brain, spacing_mm=(1.5, 1.0, 5.0))
    for masked, inside in ((True, brain != 0), (False, brain != 0)):
        of["configurations"]["full"]["use_mask_for_norm"] = [masked]
        (tmp_path / "p.json").write_text(json.dumps(of))
        plan = import_net([tmp_path / "c.pth"], **files).plan
        got = prepare(plan, image).values[..., 0]
        scaled = (brain - brain[inside].mean()) / brain[inside].std()
        np.testing.assert_allclose(
            got, np.where(inside, scaled, 0) if masked else scaled, rtol=1e-4
        )


def test_plans_transposed_and_inherited(tmp_path, rng):
    """A network that reads (y, z, x), of a configuration that inherits all from another."""
    of = plans(3) | {"transpose_forward": [1, 0, 2]}
    net = their_net(of)
    ours = import_net([saved(net, tmp_path / "c.pth", of)], configuration="same")
    assert ours.plan.patch == (24, 8, 16)
    x = rng.standard_normal((1, 24, 8, 16, 1)).astype(np.float32)
    wanted = theirs(net, x, (1, 2, 0))
    assert agree(said(ours, x), wanted)
    flat = plans(2) | {"transpose_forward": [1, 0, 2]}
    with pytest.raises(InputError, match="reads planes that are not axial"):
        import_net([saved(their_net(flat), tmp_path / "f.pth", flat)])


class Anything:
    def __reduce__(self):
        return print, ("this must not be run",)


def test_what_is_no_such_network_is_refused_in_a_sentence(tmp_path, capsys):
    net = basic_unet()
    whole = net.state_dict()
    file = tmp_path / "net.pt"

    def refused(content, sentence, inputs=CT, **settings):
        torch.save(content, file)
        with pytest.raises(InputError, match=sentence) as found:
            import_net([file], inputs=inputs, **settings)
        assert "\n" not in str(found.value)

    refused(
        {"conv.weight": torch.ones(3)}, "architecture of this checkpoint is unknown .*conv.weight"
    )
    refused(whole | {"extra.weight": torch.ones(2)}, "1 weight is more than its network has")
    first = {k: v for k, v in whole.items() if k != "down_1.convs.conv_1.conv.weight"}
    refused(first, "1 weight is missing, such as down_1.convs.conv_1.conv.weight")
    refused({"state_dict": whole, "optimiser": Anything()}, "more than weights in this checkpoint")
    assert "must not be run" not in capsys.readouterr().out
    refused({"epoch": 3}, "no weights by name")
    refused(whole | {"conv_0.conv_0.conv.bias": torch.full((4,), np.nan)}, "not finite numbers")
    refused(whole, "does not say what it works on", inputs=None)
    refused(whole, "must be multiples of", inputs=replace(CT, patch=(24, 24)))
    refused(whole, "too small for 4 steps down", inputs=replace(CT, patch=(16, 16)))
    refused(basic_unet(upsample="nontrainable").state_dict(), "upsample 'deconv'")
    file.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="not a whole checkpoint"):
        import_net([file], inputs=CT)
    with pytest.raises(InputError, match="there is no such file"):
        import_net([tmp_path / "none.pt"], inputs=CT)


def test_other_plans_are_refused_in_a_sentence(tmp_path):
    of = plans(2)
    net, file = their_net(of), tmp_path / "c.pth"

    def refused(changes, sentence, **settings):
        full = of["configurations"]["full"]
        architecture = full["architecture"]
        inner = architecture["arch_kwargs"] | changes.pop("arguments", {})
        architecture = architecture | {"arch_kwargs": inner} | changes.pop("architecture", {})
        full = full | {"architecture": architecture} | changes.pop("full", {})
        made = of | {"configurations": {"full": full}} | changes
        saved(net, file, made)
        with pytest.raises(InputError, match=sentence) as found:
            import_net([file], **settings)
        assert "\n" not in str(found.value)

    refused({"configurations": None}, "plans are of another version .*no configurations in them")
    old = {k: v for k, v in of["configurations"]["full"].items() if k != "architecture"}
    refused({"configurations": {"full": old}}, "another version .*no architecture in them")
    refused(
        {"arguments": {"strides": [[1, 1], [2, 2]]}}, "another version than nnU-Net v2.4 to v2.6"
    )
    refused({}, "no configuration '3d_cascade'; it has full", configuration="3d_cascade")
    refused({"full": {"previous_stage": "3d_lowres"}}, "goes on from labels of another network")
    refused({"architecture": {"network_class_name": "a.Primus"}}, "the architecture Primus cannot")
    refused({"arguments": {"norm_op": "torch.nn.BatchNorm2d"}}, "the norm BatchNorm2d")
    refused({"arguments": {"features_per_stage": [4, 6, 9]}}, "has shape .* its network has")
    refused({"arguments": {"n_conv_per_stage": [2, 3, 2]}}, "3 weights are missing")
    refused(
        {"full": {"normalization_schemes": ["RescaleTo01Normalization"]}}, "Rescale.* cannot be"
    )
    saved(net, file, of, init_args={})
    with pytest.raises(InputError, match="plans.json is neither in this checkpoint nor beside it"):
        import_net([file])


def test_from_a_terminal(tmp_path, capsys):
    from aistat_jax.cli import main

    torch.save(basic_unet().state_dict(), tmp_path / "net.pt")
    given = ["import", str(tmp_path / "net.pt"), "--out", str(tmp_path / "net")]
    assert main(given) == 2
    assert "pass its --channel, --label, --patch" in capsys.readouterr().err
    assert main([*given, "--channel", "CT=HU", "--label", "lesion", "--patch", "32"]) == 2
    assert "--patch 32 is not 2 or 3 numbers" in capsys.readouterr().err
    assert not (tmp_path / "net").exists()
    more = ["--channel", "CT=HU", "--label", "lesion", "--patch", "32,32", "--window=-150,250"]
    assert main([*given, *more, "--spacing-mm", "2,2,3"]) == 0
    assert "member-0.safetensors" in capsys.readouterr().out
    plan = load_net(tmp_path / "net").plan
    again = aj.import_net(tmp_path / "net.pt", tmp_path / "again", inputs=CT)
    assert plan == again.plan == load_net(tmp_path / "again").plan
    with pytest.raises(InputError, match="pass its `inputs`"):
        aj.import_net(str(tmp_path / "net.pt"), tmp_path / "none")
    assert not (tmp_path / "none").exists()
