"""What is done with a trained network from a terminal? `aistat predict` and `aistat evaluate`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from functools import partial as bound
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import (
    ARGUMENTS,
    OUT,
    Seed,
    check_seed,
    kept,
    point_of,
    within_memory,
    written_to,
)

if TYPE_CHECKING:
    from aistat_jax.nets.weights import Net
    from aistat_jax.space.image import Image

_INPUT = "What to predict (one of these)"


def predict(
    net: Annotated[
        str, typer.Argument(help="Folder of a network (of a run, or its net/), or a shipped name.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUT)],
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="A channel of one case; once a channel.",
            metavar="NAME=FILE",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="A folder of images CASE_0000.nii.gz, CASE_0001.nii.gz, ... as nnU-Net has them, "
            "or a dataset (its imagesTs, else its imagesTr).",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Share of an edge that neighbouring windows have in common.")
    ] = 0.5,
    mirror: Annotated[bool, typer.Option(help="Also predict every mirror image.")] = True,
    dropout_draws: Annotated[
        int, typer.Option(help="Draws of dropout a member; needs a network with dropout.")
    ] = 0,
    click: Annotated[
        list[str] | None,
        typer.Option(
            help="A point on the lesion wanted, patient RAS mm (pixels without spacing), of a "
            "network trained with --prompts; may be repeated.",
            metavar="X,Y,Z",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    not_here: Annotated[
        list[str] | None,
        typer.Option(
            help="A point that is not wanted; may be repeated.",
            metavar="X,Y,Z",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Windows at once (default: by the network, at most 8).")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Predict label maps, their log-odds, and how far the network disagrees with itself.

    The spread is the standard deviation of the log-odds over the members of the ensemble, mirror
    images and draws of dropout. All files lie on the image's own grid (that of the network's
    first channel). In a folder of many cases, each is written when it is done.
    """
    check_seed(seed)
    if (image is None) == (images is None):
        raise InputError("pass either --image NAME=FILE for every channel, or --images FOLDER")
    if not 0 <= overlap < 1:
        raise InputError(f"--overlap {overlap:g} must be from 0 to below 1")
    if dropout_draws < 0 or (batch is not None and batch < 1):
        raise InputError(
            f"--dropout-draws {dropout_draws} must be at least 0 and --batch at least 1"
        )
    if images is not None and (click or not_here):
        raise InputError("points are of one case; pass it by --image NAME=FILE for every channel")
    points = {
        "foreground_mm": [point_of("--click", text) for text in click or ()],
        "background_mm": [point_of("--not-here", text) for text in not_here or ()],
    }
    files = None if image is None else _channels(image)
    advice = "lower --batch, crop the image, or use a machine with more"
    with within_memory(advice), kept("cases with a file in labels are whole"):
        from aistat_jax._files import check_writable, write_whole
        from aistat_jax._progress import progress_bar
        from aistat_jax.nets.predict import predict as predict_image
        from aistat_jax.nets.predict import prediction_bytes
        from aistat_jax.nets.prepare import working_grid
        from aistat_jax.nets.prompts import prompts
        from aistat_jax.nets.weights import load_net
        from aistat_jax.views.predictions import prediction_card, write_prediction

        loaded = load_net(Path(net) / "net" if (Path(net) / "net" / "plan.json").is_file() else net)
        check_writable(out)
        cases = _cases(loaded, files, images)
        for name, read in cases:
            case = read()
            needed = prediction_bytes(loaded, case.primary.grid, batch) / 2**30
            size = " x ".join(map(str, case.primary.grid.shape))
            print(f"{name}: {size} voxels, needs about {needed:.2g} GiB of memory", flush=True)
            with progress_bar(None, name) as bar:

                def progress(done: int, total: int, bar: Any = bar) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                asked = None
                if click or not_here:
                    asked = prompts(
                        loaded.plan, working_grid(loaded.plan, case.primary.grid), **points
                    )
                found = predict_image(
                    loaded, case, guidance=asked, overlap=overlap, mirror=mirror,
                    dropout_draws=dropout_draws, batch=batch, seed=seed, progress=progress,
                )  # fmt: skip
            names, volumes = write_prediction(out, name, found, case.primary)
            unit = case.primary.unit
            each = zip(found.labels, volumes, strict=True)
            print("  " + ", ".join(f"{label} {volume:,.0f} {unit}³" for label, volume in each))
            for file in names:
                print(f"  {file}")
        about = {
            "command": shlex.join(["aistat", *ARGUMENTS.get()]), "seed": seed,
            "click": click or [], "not_here": not_here or [],
            "overlap": overlap, "mirror": mirror, "dropout_draws": dropout_draws,
            "cases": [name for name, _ in cases],
        }  # fmt: skip
        write_whole(out / "prediction.json", prediction_card(loaded, about))
    print(f"wrote to {out}{os.sep}")


def evaluate(
    predicted: Annotated[Path, typer.Argument(help="Folder of predicted label maps.")],
    reference: Annotated[
        Path, typer.Argument(help="Folder of drawn label maps of the same names, or a dataset.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUT)],
    tolerance_mm: Annotated[
        float | None,
        typer.Option(help="Distance that still counts as the same surface, mm (default 2)."),
    ] = None,
    tolerance_px: Annotated[
        float | None, typer.Option(help="The same in pixels (default 1).")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out references without a prediction.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Score predicted label maps: Dice, surface Dice, HD95, ASSD and volume error.

    Means come with 95% bootstrap intervals over patients. A label that neither map holds is not
    scored; where only one of them holds it, Dice and surface Dice are 0 and there is no distance.
    """
    check_seed(seed)
    for tolerance in (tolerance_mm, tolerance_px):
        if tolerance is not None and not 0 < tolerance < float("inf"):
            raise InputError(f"the tolerance {tolerance:g} must be a positive length")
    with written_to(out) as folder:
        from aistat_jax.evaluation import evaluate as evaluate_folders
        from aistat_jax.views.scores import scores_text, write_scores

        scores = evaluate_folders(
            predicted, reference, tolerance_mm=tolerance_mm, tolerance_px=tolerance_px,
            partial=partial,
        )  # fmt: skip
        about = {"predicted": str(predicted), "reference": str(reference)}
        names = write_scores(folder, scores, seed, about)
    print(scores_text(scores, seed))
    print(f"wrote to {out}{os.sep}")
    for name in names:
        print(f"  {name}")


def _channels(given: list[str]) -> dict[str, Path]:
    """Files by channel, from NAME=FILE."""
    files: dict[str, Path] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not (name and sign and path):
            raise InputError(f"--image {text} is not NAME=FILE, such as --image PT=pet.nii.gz")
        if name in files:
            raise InputError(f"--image {name} was given twice; give every channel one file")
        files[name] = Path(path)
    return files


def _cases(
    net: Net, files: dict[str, Path] | None, images: Path | None
) -> list[tuple[str, Callable[[], Image]]]:
    """Names of the cases, and how to read each."""
    from aistat_jax.io.nifti import read_image
    from aistat_jax.io.nnunet import MAP_ENDINGS, find_images, read_image_of

    plan = net.plan
    if images is not None:
        found = find_images(images, plan.channels)
        return [(name, bound(read_image_of, found, name, ".")) for name in found.cases]
    given = files or {}
    wanted = dict(zip(plan.channels, plan.quantities, strict=True))
    for name, quantity in wanted.items():
        if name not in given:
            raise InputError(
                f"the network {plan.name} needs channel {name} ({quantity}); add --image "
                f"{name}=FILE"
            )
    for name in given:
        if name not in wanted:
            raise InputError(
                f"the network {plan.name} has no channel {name}, only {', '.join(wanted)}; leave "
                "it out"
            )
    ordered = {name: given[name] for name in plan.channels}
    first = ordered[plan.channels[0]].name
    for ending in (*MAP_ENDINGS, "_0000"):
        first = first.removesuffix(ending)
    return [(first, bound(read_image, **ordered))]
