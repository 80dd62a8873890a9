"""How does a network that others have trained become one of ours? Once, with weights and plan.

After that there is a folder like any other network's, and neither PyTorch nor their code is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax.nets.foreign import basic_unet, nnunet
from aistat_jax.nets.foreign.basic_unet import Inputs as Inputs
from aistat_jax.nets.foreign.reading import Checkpoint, read_checkpoint
from aistat_jax.nets.weights import Net, save_net


def import_net(
    checkpoint: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    inputs: Inputs | None = None,
    plans: Path | None = None,
    dataset: Path | None = None,
    configuration: str | None = None,
) -> Net:
    """A network from a checkpoint of PyTorch: a BasicUNet of MONAI, or one of nnU-Net v2.

    Several checkpoints of one plan, such as nnU-Net's folds, become an ensemble. out: the folder
    to keep it in, from which `load_net` reads it; None for none. inputs: what a BasicUNet works on
    (`aistat_jax.nets.foreign.Inputs`). plans, dataset: nnU-Net's plans.json and dataset.json, by
    default those in the checkpoint, else those beside it or a folder up; configuration: one of the
    plans', by default that of the checkpoint.

    Images are prepared here as elsewhere in this package: normalised as the plan says, but
    resampled linearly (nnU-Net takes cubic splines), in RAS, and not cropped to where they are not
    zero. Of nnU-Net's z-scores the mean and sd are those of each channel's own nonzero part.
    Mirror images are those that nnU-Net's trainer allowed; none where the checkpoint names none.
    Raises InputError for what cannot be converted exactly, and as `read_checkpoint` and `save_net`
    do; nothing is written then.
    """
    several = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
    checkpoints = [Path(file) for file in several]
    if not checkpoints:
        raise InputError("import_net needs at least one checkpoint")
    nets = [
        _one(read_checkpoint(file), inputs, plans, dataset, configuration) for file in checkpoints
    ]
    for file, net in zip(checkpoints, nets, strict=True):
        if replace(net.plan, name="") != replace(nets[0].plan, name=""):
            raise InputError(f"{file}: this checkpoint has another plan than {checkpoints[0]}")
    card = nets[0].card | {"checkpoints": [net.card["checkpoints"][0] for net in nets]}
    whole = replace(nets[0], members=tuple(net.members[0] for net in nets), card=card)
    if out is not None:
        save_net(whole, out)
    return whole


def _one(
    given: Checkpoint,
    inputs: Inputs | None,
    plans: Path | None,
    dataset: Path | None,
    configuration: str | None,
) -> Net:
    if basic_unet.FIRST in given.weights:
        if inputs is None:
            raise InputError(
                f"{given.file}: a BasicUNet's checkpoint does not say what it works on; pass its "
                "`inputs` (channels, labels, patch, spacing_mm, window)"
            )
        plan = basic_unet.plan_of(given, inputs)
        return Net(plan, (basic_unet.weights_of(given, plan),), _card(given, "BasicUNet (MONAI)"))
    if not any(name.startswith("encoder.st") for name in given.weights):
        raise InputError(
            f"{given.file}: the architecture of this checkpoint is unknown (its first weight is "
            f"{next(iter(given.weights))}); those that can be converted are BasicUNet, "
            f"{', '.join(nnunet.KINDS)}"
        )
    beside = given.beside.get("init_args")
    beside = beside if isinstance(beside, Mapping) else {}
    file, of = _content(given, beside, "plans", "plans", plans)
    _, data = _content(given, beside, "dataset", "dataset_json", dataset)
    name = configuration or beside.get("configuration") or "3d_fullres"
    mirrored = given.beside.get("inference_allowed_mirroring_axes")
    plan = nnunet.plan_of(file, of, data, str(name), mirrored)
    axes = nnunet.our_axes(file, of, plan.architecture.dims)
    trainer = given.beside.get("trainer_name")
    return Net(
        plan, (nnunet.weights_of(given, plan, axes),), _card(given, f"nnU-Net v2 ({trainer})")
    )


def _content(
    given: Checkpoint, beside: Mapping[str, Any], what: str, key: str, file: Path | None
) -> tuple[Path, Mapping[str, Any]]:
    """What plans.json or dataset.json says: of the file given, the checkpoint, or one near it."""
    if file is not None:
        return file, nnunet.read_plans(file)
    if isinstance(beside.get(key), Mapping) and beside[key]:
        return given.file, beside[key]
    for folder in given.file.resolve().parents[:2]:
        if (folder / f"{what}.json").is_file():
            return folder / f"{what}.json", nnunet.read_plans(folder / f"{what}.json")
    raise InputError(
        f"{given.file}: nnU-Net's {what}.json is neither in this checkpoint nor beside it; pass "
        f"{what}"
    )


def _card(given: Checkpoint, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "checkpoints": [{"file": given.file.name, "sha256": given.digest}],
        "licence": "not stated; that of the weights' authors holds",
        "limits": "for research and teaching; not for clinical use",
    }


__all__ = ["Inputs", "import_net"]
