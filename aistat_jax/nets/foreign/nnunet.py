"""What is a network of nnU-Net v2 here? A U-Net or residual-encoder U-Net, and its plans our plan.

Arrays of nnU-Net are (z, y, x) of the file, transposed as its plans say, and ours (i, j, k): the
axes of every kernel are permuted once, and images stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax.io.nnunet import names_of_channels, names_of_labels
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.foreign.reading import Checkpoint
from aistat_jax.nets.foreign.translation import Sources, block, convolution, normed, translated
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.nets.weights import Weights
from aistat_jax.space.image import quantity_of

KINDS = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "resenc"}
NO_LIMIT = 1e30
NOT_DEFAULT = (1e-2, 1e-5)  # slope of LeakyReLU and epsilon of the norm, as PyTorch has them


def read_plans(file: Path) -> dict[str, Any]:
    """A plans.json or dataset.json. Raises InputError for a file that is no JSON."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: this is not a whole JSON file; pass nnU-Net's own") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: this is not a whole JSON file; pass nnU-Net's own")
    return content


def plan_of(
    file: Path,
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    configuration: str,
    mirrored: Sequence[int] | None = None,
) -> Plan:
    """Our plan for one configuration of nnU-Net's plans and the dataset.json they were made for.

    file: what sentences name. mirrored: a checkpoint's `inference_allowed_mirroring_axes`, of
    nnU-Net's arrays; None for none, as nnU-Net takes it. Raises InputError for plans of another
    version, an unknown configuration, architecture, layer or normalisation, regions, and a cascade.
    """
    try:
        plan = _plan_of(file, plans, dataset, configuration)
        axes = our_axes(file, plans, plan.architecture.dims)
        ours = tuple(sorted(axes.index(int(axis)) for axis in mirrored or ()))
        every = ours == tuple(range(plan.architecture.dims))
        return replace(plan, mirror_axes=None if every else ours).check()
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file}: these plans are of another version than nnU-Net v2.4 to v2.6 writes "
            f"({type(error).__name__}: {error}); plan the dataset again with one of them"
        ) from error


def _plan_of(
    file: Path, plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str
) -> Plan:
    of = _configuration(file, plans, configuration)
    if "architecture" not in of:
        raise InputError(
            f"{file}: these plans are of another version than nnU-Net v2.4 to v2.6 writes (there "
            "is no architecture in them); plan the dataset again with one of them"
        )
    if of.get("previous_stage"):
        raise InputError(
            f"{file}: the configuration {configuration} goes on from labels of another network, "
            "which is not supported; choose 2d or 3d_fullres"
        )
    kind = str(of["architecture"]["network_class_name"]).rsplit(".", 1)[-1]
    if kind not in KINDS:
        raise InputError(
            f"{file}: the architecture {kind} cannot be converted; those that can are "
            f"{', '.join(KINDS)}"
        )
    arguments = of["architecture"]["arch_kwargs"]
    slope = _slope(file, arguments)
    channels = names_of_channels(file, dataset.get("channel_names", dataset.get("modality")))
    labels = names_of_labels(file, dataset["labels"])
    axes = our_axes(file, plans, len(of["patch_size"]))
    dims = len(axes)

    def turned(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[axis] for axis in axes)

    stages = int(arguments["n_stages"])
    strides = [turned(_each(s, dims)) for s in _each(arguments["strides"], stages)]
    if set(strides[0]) != {1}:
        raise InputError(f"{file}: a network that steps down at once cannot be converted")
    common: dict[str, Any] = {
        "windows": tuple(turned(_each(w, dims)) for w in _each(arguments["kernel_sizes"], stages))
    }
    up = tuple(reversed(_each(arguments["n_conv_per_stage_decoder"], stages - 1)))
    if KINDS[kind] == "unet":
        common["convolutions"] = tuple(_each(arguments["n_conv_per_stage"], stages))
    else:
        common["blocks"] = tuple(_each(arguments["n_blocks_per_stage"], stages))
        common["stem"] = arguments.get("stem_channels") or 0
        if arguments.get("bottleneck_channels") or "Bottleneck" in str(arguments.get("block", "")):
            raise InputError(f"{file}: residual blocks with a bottleneck cannot be converted")
    options = common | {"decoder_convolutions": up}
    architecture = Architecture(
        dims=dims, channels=len(channels), classes=len(labels),
        widths=tuple(_each(arguments["features_per_stage"], stages)),
        strides=tuple(strides[1:]), slope=slope, backbone=KINDS[kind],
        options=tuple(sorted(options.items())),
    )  # fmt: skip
    return Plan(
        name=f"{plans['dataset_name']}-{configuration}", architecture=architecture,
        channels=channels, quantities=tuple(map(quantity_of, channels)), labels=labels,
        normalisations=_normalisations(file, plans, of, len(channels)),
        spacing_mm=_spacing(plans, of, axes), patch=tuple(map(int, turned(of["patch_size"]))),
        batch=int(of.get("batch_size", 2)),
    )  # fmt: skip


def our_axes(file: Path, plans: Mapping[str, Any], dims: int) -> tuple[int, ...]:
    """For each of our network's axes (i, j, k) the axis of nnU-Net's arrays, in its plans' order.

    Raises InputError for a 2D network whose planes are not axial.
    """
    forward = [int(n) for n in plans.get("transpose_forward", (0, 1, 2))]
    place = [forward.index(axis) for axis in (2, 1, 0)]  # of x, y and z
    if dims == 3:
        return tuple(place)
    if place[2] != 0:
        raise InputError(
            f"{file}: its 2D network reads planes that are not axial, which is not supported; "
            "choose 3d_fullres"
        )
    return place[0] - 1, place[1] - 1


def weights_of(given: Checkpoint, plan: Plan, axes: Sequence[int]) -> Weights:
    """The weights of a plan's network from those of nnU-Net's."""
    a = plan.architecture
    options = dict(a.options)
    steps = len(a.strides)
    sources: Sources = {}
    if a.backbone == "unet":
        for k, count in enumerate(options["convolutions"]):
            for n in range(count):
                sources |= _layer(f"encoder.{k}.{block(n)}", f"encoder.stages.{k}.0.convs.{n}")
    else:
        sources |= _layer("stem", "encoder.stem.convs.0")
        widths = (options["stem"] or a.widths[0], *a.widths)
        for k, count in enumerate(options["blocks"]):
            for n in range(count):
                ours, theirs = f"encoder.{k}.{n}", f"encoder.stages.{k}.blocks.{n}"
                sources |= _layer(f"{ours}.first", f"{theirs}.conv1")
                sources |= _layer(f"{ours}.second", f"{theirs}.conv2")
                if n == 0 and widths[k] != a.widths[k]:
                    pooled = k > 0 and max(a.strides[k - 1]) > 1
                    sources |= _layer(f"{ours}.short", f"{theirs}.skip.{int(pooled)}")
    for k in range(steps):
        finer = a.widths[steps - 1 - k]
        sources |= convolution(f"up.{k}", f"decoder.transpconvs.{k}", "up")
        sources |= convolution(f"heads.{k}", f"decoder.seg_layers.{k}")
        for n in range(options["decoder_convolutions"][steps - 1 - k]):
            theirs = f"decoder.stages.{k}.convs.{n}"
            halves = finer if n == 0 else 0  # nnU-Net joins what rose first, and we the skip
            sources |= _layer(f"decoder.{k}.{block(n)}", theirs, halves)
    for k in range(steps):
        source = sources[f"up.{k}.bias"]
        sources[f"up.{k}.bias"] = source._replace(spare=source.name not in given.weights)
    return translated(a, sources, given, axes)


def _layer(ours: str, theirs: str, halves: int = 0) -> Sources:
    return normed(ours, f"{theirs}.conv", f"{theirs}.norm", halves)


def _configuration(file: Path, plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    known = plans.get("configurations")
    if not isinstance(known, Mapping):
        raise InputError(
            f"{file}: these plans are of another version than nnU-Net v2.4 to v2.6 writes (there "
            "are no configurations in them); plan the dataset again with one of them"
        )
    if name not in known:
        raise InputError(f"{file}: there is no configuration {name!r}; it has {', '.join(known)}")
    found = dict(known[name])
    parent = found.get("inherits_from")
    return found if parent in (None, name) else _configuration(file, plans, parent) | found


def _slope(file: Path, arguments: Mapping[str, Any]) -> float:
    """Of the leaky rectifier. Raises InputError for layers that are not ours."""
    norm, rectifier = (str(arguments[k]).rsplit(".", 1)[-1] for k in ("norm_op", "nonlin"))
    scale = arguments.get("norm_op_kwargs") or {}
    if (
        not norm.startswith("InstanceNorm")
        or not scale.get("affine")
        or scale.get("eps", 1e-5) != (NOT_DEFAULT[1])
    ):
        raise InputError(f"{file}: the norm {norm} with {dict(scale)} cannot be converted; only "
                         "affine instance norms can")  # fmt: skip
    if arguments.get("nonlin_first"):
        raise InputError(f"{file}: a network with its rectifiers before norms cannot be converted")
    if rectifier == "ReLU":
        return 0.0
    if rectifier != "LeakyReLU":
        raise InputError(f"{file}: the rectifier {rectifier} cannot be converted; use LeakyReLU")
    return float((arguments.get("nonlin_kwargs") or {}).get("negative_slope", NOT_DEFAULT[0]))


def _normalisations(
    file: Path, plans: Mapping[str, Any], of: Mapping[str, Any], count: int
) -> tuple[Normalisation, ...]:
    found = plans.get("foreground_intensity_properties_per_channel") or {}

    def one(n: int) -> Normalisation:
        kind, masked = of["normalization_schemes"][n], of["use_mask_for_norm"][n]
        if kind == "ZScoreNormalization":
            return Normalisation("zscore-mask" if masked else "zscore-box")
        if kind == "CTNormalization":
            v = found[str(n)]
            low, high = v["percentile_00_5"], v["percentile_99_5"]
            return Normalisation("ct", low, high, v["mean"], max(v["std"], 1e-8))
        if kind == "NoNormalization":
            return Normalisation("ct", -NO_LIMIT, NO_LIMIT, 0.0, 1.0)
        if kind == "RGBTo01Normalization":
            return Normalisation("ct", 0.0, 255.0, 0.0, 255.0)
        raise InputError(f"{file}: the normalisation {kind} cannot be converted")

    return tuple(one(n) for n in range(count))


def _spacing(
    plans: Mapping[str, Any], of: Mapping[str, Any], axes: Sequence[int]
) -> tuple[float, float, float]:
    spacing = [float(n) for n in of["spacing"]]
    if len(axes) == 3:
        return spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]
    between = float(plans["original_median_spacing_after_transp"][0])
    return spacing[axes[0]], spacing[axes[1]], between


def _each(value: Any, count: int) -> list[Any]:
    """A list of that many, of one value where one stands for all."""
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise ValueError(f"{len(values)} values for {count}")
    return values
