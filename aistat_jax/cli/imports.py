"""How do weights that others have trained come in from a terminal? `aistat import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import OUT, in_flags, say_written
from aistat_jax.cli.terminal import keep

_NNUNET, _MONAI = "nnU-Net v2", "MONAI's BasicUNet"


def import_net(
    checkpoint: Annotated[
        list[Path], typer.Argument(help="Checkpoint of PyTorch; several folds are an ensemble.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the network.", rich_help_panel=OUT)],
    plans: Annotated[
        Path | None,
        typer.Option(help="plans.json (default: the checkpoint's own, or beside it).",
                     rich_help_panel=_NNUNET),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="dataset.json (default: likewise).", rich_help_panel=_NNUNET),
    ] = None,
    configuration: Annotated[
        str | None,
        typer.Option(help="2d, 3d_fullres, ... (default: the checkpoint's).", metavar="NAME",
                     rich_help_panel=_NNUNET),
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(help="What it reads, in order; once a channel.", metavar="NAME=QUANTITY",
                     rich_help_panel=_MONAI),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="What it tells apart, in order; once a label.", metavar="NAME",
                     rich_help_panel=_MONAI),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(help="Voxels it sees at once.", metavar="N,N[,N]", rich_help_panel=_MONAI),
    ] = None,
    spacing_mm: Annotated[
        str | None,
        typer.Option(help="Of the grid it works on (default: images without spacing).",
                     metavar="X,Y,Z", rich_help_panel=_MONAI),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help="The values that became 0 and 1 (default: a z-score of each image).",
                     metavar="LOW,HIGH", rich_help_panel=_MONAI),
    ] = None,
    slope: Annotated[
        float, typer.Option(help="Of its leaky rectifiers.", rich_help_panel=_MONAI)
    ] = 0.1,
) -> None:  # fmt: skip
    """Make a network of weights that others have trained: of nnU-Net v2, or MONAI's BasicUNet.

    PyTorch is needed to read the checkpoint, and reads nothing but weights from it. What comes out
    is used like any other network: aistat predict, aistat contour --net.
    """
    from aistat_jax._files import check_writable
    from aistat_jax.nets.foreign import Inputs
    from aistat_jax.nets.foreign import import_net as imported

    inputs = None
    if channel:
        if not (label and patch):
            raise InputError("with --channel pass --label and --patch too")
        pairs = [text.partition("=") for text in channel]
        if not all(name and quantity for name, _, quantity in pairs):
            raise InputError(f"--channel {channel[-1]} is not NAME=QUANTITY, such as CT=HU")
        bounds = None if window is None else _numbers("--window", window, (2,))
        spacing = None if spacing_mm is None else _numbers("--spacing-mm", spacing_mm, (3,))
        inputs = Inputs(
            {name: quantity for name, _, quantity in pairs}, tuple(label),
            tuple(int(n) for n in _numbers("--patch", patch, (2, 3))),
            None if spacing is None else (spacing[0], spacing[1], spacing[2]),
            None if bounds is None else (bounds[0], bounds[1]), slope,
        )  # fmt: skip
    check_writable(out)
    with in_flags(inputs="--channel, --label, --patch, --spacing-mm and --window"):
        net = imported(
            checkpoint, out, inputs=inputs, plans=plans, dataset=dataset,
            configuration=configuration,
        )  # fmt: skip
    keep(f"the network in {out} is whole")
    names = [f"member-{n}.safetensors" for n in range(len(net.members))]
    say_written(out, ["plan.json", "card.json", *names])


def _numbers(option: str, text: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in counts:
        wanted = " or ".join(map(str, counts))
        raise InputError(f"{option} {text} is not {wanted} numbers with commas and no spaces")
    return found
