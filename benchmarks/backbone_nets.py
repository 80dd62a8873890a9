"""Where do the networks come from that `backbones` compares? One budget for all, data in one file.

`python -m benchmarks.backbone_nets pack` writes the lung nodules under $AISTAT_DATA, and phantoms,
to build/backbones; `... train` trains every backbone on both, each in a process of its own, and
its contour head. What is done already is not done again, and what was cut short goes on from its
last checkpoint. `... time` measures their steps, one network after the other.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._files import write_whole
from aistat_jax.data.collections import lung_nodules
from aistat_jax.data.phantoms import Phantom
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import BACKBONES
from aistat_jax.nets.recipes import (
    PHANTOMS,
    RECIPES,
    Drawn,
    Recipe,
    learnable_cases,
    part_of,
    train_recipe_head,
    varied_phantom,
)
from aistat_jax.nets.train import train
from aistat_jax.nets.weights import save_net
from aistat_jax.space.image import Image, channel_from_array
from benchmarks.patients import collections

# Of every backbone: widths, finest first, and options: half of the published sizes or less, which
# two cores train in minutes.
SIZES: dict[str, tuple[tuple[int, ...], tuple[tuple[str, Any], ...]]] = {
    "unet": ((16, 32, 64, 128), ()),
    "resenc": ((12, 24, 48, 96), ()),
    "vnet": ((8, 16, 32, 64), ()),
    "transunet": ((8, 16, 32, 64, 120), (("layers", 4), ("heads", 6))),
    "ukan": ((8, 16, 64, 64, 80, 128), ()),
    "iukan": ((5, 10, 20, 40, 50), ()),
}
BATCH = 8  # patches a step
DATA = {"nodules": "nodule-ct-2d", "phantoms": "phantom-petct-2d"}  # and whose recipe each follows
SIDE = 96  # pixels of what is kept of a nodule's slice, its middle
SLICES = {"train": 5, "train2": 5, "val": 4}  # of a patient, evenly spread, at most
COUNTS = {"unet": 450, "head": 250, "validation": 150}  # of phantoms
CT_RANGE = (-160.0, 240.0)  # HU, all that the networks see; kept in 256 steps
TIMED = 60  # steps


@dataclass(frozen=True)
class Budget:
    """What every network gets: steps, those of its head, and the step to learn by.

    few: learn from, and judge, this many cases a part only; 0 for all.
    """

    steps: int = 400
    head_steps: int = 600
    learning_rate: float = 1e-3
    few: int = 0


# ---------------------------------------------------------------------------------- the data


def pack(folder: Path, data: str) -> Path:
    """Write the cases of one kind to a compressed file in the folder."""
    arrays = (_nodule_arrays if data == "nodules" else _phantom_arrays)()
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{data}.npz", content.getvalue())
    return folder / f"{data}.npz"


def _nodule_arrays() -> dict[str, np.ndarray]:
    found = [_nodules(name, count) for name, count in SLICES.items()]
    image, mask, patient = (np.concatenate(parts) for parts in zip(*found, strict=True))
    validation = np.repeat([name == "val" for name in SLICES], [len(each[0]) for each in found])
    part = [
        "validation" if held else part_of(f"lidc{number}", (0.7, 0.3, 0.0))
        for held, number in zip(validation, patient, strict=True)
    ]
    return {"image": image, "mask": mask, "patient": patient, "part": np.array(part)}


def _phantom_arrays() -> dict[str, np.ndarray]:
    seeds = [seed for part, count in COUNTS.items() for seed in PHANTOMS[part][:count]]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        made = list(pool.map(_phantom, seeds, chunksize=10))
    pet, ct, mask = (np.stack(parts) for parts in zip(*made, strict=True))
    part = np.repeat(list(COUNTS), list(COUNTS.values()))
    return {"pt": pet, "ct": ct, "mask": mask, "patient": np.array(seeds), "part": part}


def _nodules(part: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, masks in bits and patients of a file of slices; to judge on, those that most drew."""
    nodules = lung_nodules(collections(), part)
    shown = np.ones(len(nodules.patients), bool) if part != "val" else _agreed(nodules.masks)
    chosen = []
    for patient in np.unique(nodules.patients):
        places = np.flatnonzero((nodules.patients == patient) & shown)
        if len(places):
            spread = np.linspace(0, len(places) - 1, min(count, len(places))).round()
            chosen += list(places[spread.astype(int)])
    few = nodules.of(np.array(chosen))
    edge = (few.images.shape[1] - SIDE) // 2
    middle = np.s_[..., edge : edge + SIDE, edge : edge + SIDE]
    bits = np.packbits(few.masks[middle].reshape(len(few.masks), 4, -1), axis=-1)
    return few.images[middle], bits, few.patients


def _agreed(masks: np.ndarray) -> np.ndarray:
    """In which slices half of the readers agree on some pixel."""
    return (masks.sum(axis=1, dtype=np.uint8) >= 2).any(axis=(1, 2))


def _phantom(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    made: Phantom = varied_phantom(seed)
    low, high = CT_RANGE
    share = (np.clip(made.image["CT"].values[..., 0], low, high) - low) / (high - low)
    pet = made.image["PT"].values[..., 0].astype(np.float16)
    return pet, np.rint(255 * share).astype(np.uint8), np.packbits(made.mask)


def cases(folder: Path, data: str, part: str, few: int = 0) -> Iterator[Drawn]:
    """The cases of one part ("unet", "head" or "validation") of one kind of data."""
    with np.load(folder / f"{data}.npz") as stored:
        kept = {name: stored[name] for name in stored}
    numbers = np.flatnonzero(kept["part"] == part)
    for n in numbers[:: max(1, len(numbers) // few)] if few else numbers:
        if data == "nodules":
            image = Image.from_arrays(CT=kept["image"][n].astype(float))
            masks = np.unpackbits(kept["mask"][n], axis=-1).reshape(4, SIDE, SIDE, 1)
            yield Drawn(image, np.moveaxis(masks, 0, -1).astype(bool), f"lidc{kept['patient'][n]}")
        else:
            low, high = CT_RANGE
            ct = low + (high - low) * kept["ct"][n] / 255
            image = Image.of(_channel("PT", kept["pt"][n], 4.0), _channel("CT", ct, 2.0))
            mask = np.unpackbits(kept["mask"][n]).reshape(64, 64, 1, 1).astype(bool)
            yield Drawn(image, mask, f"phantom{kept['patient'][n]}")


def _channel(name: str, values: np.ndarray, spacing_mm: float) -> Any:
    """A slice about the origin, as the phantoms are."""
    affine = np.diag([spacing_mm, spacing_mm, 4.0, 1.0])
    affine[:2, 3] = -spacing_mm * (np.array(values.shape) - 1) / 2
    return channel_from_array(values.astype(float)[..., None], affine, name=name)


# -------------------------------------------------------------------------------- the training


def recipe_of(data: str, backbone: str, budget: Budget) -> Recipe:
    """The shipped network's recipe for that kind of data with another backbone, and the budget."""
    recipe, (widths, options) = RECIPES[DATA[data]], SIZES[backbone]
    architecture = Architecture(
        dims=2, channels=len(recipe.plan.channels), classes=2, widths=widths,
        strides=((2, 2),) * (len(widths) - 1), deep_supervision=BACKBONES[backbone].deep,
        backbone=backbone, options=options,
    )  # fmt: skip
    settings = replace(
        recipe.settings, steps=budget.steps, learning_rate=budget.learning_rate,
        warmup=min(100, budget.steps // 2),
    )  # fmt: skip
    return replace(
        recipe,
        name=f"{backbone}-{data}",
        plan=replace(
            recipe.plan, name=f"{backbone}-{data}", architecture=architecture, batch=BATCH
        ).check(),
        settings=settings,
        head=replace(recipe.head, steps=budget.head_steps, copies=1, folds=0),
        cases=lambda root, part: cases(Path(str(root)), data, part, budget.few),
        members=1,
    )


def train_one(folder: Path, out: Path, data: str, backbone: str, budget: Budget) -> Path:
    """Train one network and its head; weights are kept, and read by the head, in half precision."""
    recipe, begun = recipe_of(data, backbone, budget), time.perf_counter()
    learned = learnable_cases(recipe, folder, "unet")
    at = out / "checkpoints" / recipe.name

    def show(point: Any) -> None:
        if point.step % 100 == 0 or point.step == 1:
            print(f"{time.perf_counter() - begun:.0f} s: step {point.step}, {point.loss:.4f}",
                  flush=True)  # fmt: skip

    net = train(recipe.plan, learned, (), recipe.settings, at, progress=show).net
    halved = {name: array.astype(np.float16) for name, array in net.members[0].items()}
    single = {name: array.astype(np.float32) for name, array in halved.items()}
    print(f"{time.perf_counter() - begun:.0f} s: the head learns", flush=True)
    net = train_recipe_head(recipe, replace(net, members=(single,)), folder)
    kept = replace(net, members=(halved,), card=net.card | {"budget": vars(budget)})
    print(f"{time.perf_counter() - begun:.0f} s: done", flush=True)
    return save_net(kept, out / "nets" / recipe.name)


class Enough(Exception):
    """Enough steps were timed."""


def time_steps(folder: Path, out: Path, budget: Budget) -> None:
    """Median seconds of a step of every network, one after the other, with nothing beside them."""
    import jax

    found: dict[str, Any] = {"device": jax.devices()[0].device_kind}
    for data, backbone in jobs():
        recipe, stamps = recipe_of(data, backbone, budget), []

        def stamp(point: Any, stamps: list[float] = stamps) -> None:
            stamps.append(time.perf_counter())
            if point.step >= TIMED:
                raise Enough

        learned = learnable_cases(recipe, folder, "unet")
        with suppress(Enough):
            train(recipe.plan, learned, (), recipe.settings, None, progress=stamp)
        found[recipe.name] = float(np.median([b - a for a, b in pairwise(stamps[2:])] or [np.nan]))
        write_whole(out / "nets" / "seconds.json", json.dumps(found, indent=1) + "\n")


def jobs() -> list[tuple[str, str]]:
    """Kinds of data and backbones, in the order in which they are trained."""
    return [(data, backbone) for data in DATA for backbone in reversed(SIZES)]


def all_of(
    command: Callable[[str, str], list[str]],
    done: Callable[[str, str], bool],
    out: Path,
    workers: int,
    deadline: float,
) -> None:
    """Run the jobs that are not done, some at once, each as a process; what is late is ended."""
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str((out / "cache").resolve()),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    waiting = [job for job in jobs() if not done(*job)]
    running: list[tuple[str, subprocess.Popen[bytes]]] = []
    while waiting or running:
        while waiting and len(running) < workers:
            data, backbone = waiting.pop(0)
            name = f"{backbone}-{data}"
            with open(logs / f"{name}.log", "ab") as log:
                words = [sys.executable, "-m", *command(data, backbone)]
                running.append((name, subprocess.Popen(words, stdout=log, stderr=log,
                                                       env=environment)))  # fmt: skip
        time.sleep(0.5)
        for name, process in [pair for pair in running if pair[1].poll() is not None]:
            print(f"{name}: {'done' if process.returncode == 0 else 'FAILED'}", flush=True)
            running.remove((name, process))
        if time.monotonic() > deadline:
            for name, process in running:
                print(f"{name}: late, ended", flush=True)
                process.kill()
            return


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbone_nets", description=__doc__)
    parser.add_argument("what", choices=("pack", "train", "one", "time"))
    parser.add_argument("job", nargs="*", help="a kind of data; for one also a backbone")
    parser.add_argument("--data", type=Path, default=Path("build/backbones"))
    parser.add_argument("--out", type=Path, default=Path("build/backbones"))
    parser.add_argument("--steps", type=int, default=Budget.steps)
    parser.add_argument("--head-steps", type=int, default=Budget.head_steps)
    parser.add_argument("--few", type=int, default=0, help="cases a part (default all)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--deadline-s", type=float, default=1e9)
    given = parser.parse_args()
    budget = Budget(given.steps, given.head_steps, few=given.few)
    deadline = time.monotonic() + given.deadline_s
    shared = ["--data", str(given.data), "--out", str(given.out), "--steps", str(given.steps),
              "--head-steps", str(given.head_steps), "--few", str(given.few)]  # fmt: skip
    if given.what == "pack":
        print(*(pack(given.data, data) for data in given.job or DATA))
    elif given.what == "one":
        data, backbone = given.job
        print(train_one(given.data, given.out, data, backbone, budget))
    elif given.what == "time":
        time_steps(given.data, given.out, budget)
    else:
        all_of(
            lambda data, backbone: ["benchmarks.backbone_nets", "one", data, backbone, *shared],
            lambda data, backbone: (given.out / "nets" / f"{backbone}-{data}").is_dir(),
            given.out, given.workers, deadline,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
