"""Is the network as fast as the same one in PyTorch? MONAI's BasicUNet with the same weights.

Two cores, float32, inputs of one example; forward passes and training steps (loss, gradients and
an Adam update) of both take turns, each framework in a process of its own, so that both meet the
same machine. Ours trains in large pages, as a process of `aistat train` does (`_pages`), and
predicts without; PyTorch as Python starts it. Both alike in either way are shown beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from aistat_jax._pages import TUNABLES, page_settings
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.losses import cross_entropy
from aistat_jax.nets.network import random_net
from aistat_jax.nets.thrift import Thrifty
from aistat_jax.nets.unet import UNet
from benchmarks._profile import seconds_by_part
from benchmarks._table import Result, Row

WIDTHS = (32, 32, 64, 128, 256)
SIZES = {2: 256, 3: 96}
CLASSES = 2
THREADS = 2
KINDS = {"forward": "forward pass", "step": "training step"}
TRIED = (  # to make the training step in 2D faster, by hand: a run measures none of it again
    "Tried for the 2D step, by hand and not measured again by a run: Winograd's filtering along "
    "rows, faster only below 32^2; not kept.",
    "Tried, kernel gradients over parts of rows: no gain (loops are not spread over threads, and "
    "copies leave the cache); not kept.",
    "Tried, one arena without mmap, mean and variance in one pass, and both sums of a norm's "
    "gradient in one reduction: no gain; not kept.",
    "Kept, large pages: on 2026-11-30 ours with them against PyTorch as it comes took 525 to 504 "
    "ms, both with them 1.13 of PyTorch's time, both without 1.08.",
    "Kept, fewer operations a voxel in the norm's gradient: it takes a third less at 256^2.",
)
VOLUME = (192, 192, 128)
WINDOWS = """
import sys, time
import numpy as np
from aistat_jax.nets.predict import predict
from aistat_jax.nets.weights import load_net
from aistat_jax.space.image import Image
from benchmarks.networks import peak_megabytes

rng = np.random.default_rng(0)
shape = (192, 192, int(sys.argv[1]))
pet, ct = rng.gamma(2.0, 0.5, shape), rng.normal(0.0, 60.0, shape)
image = Image.from_arrays(PT=pet, CT=ct, spacing_mm=4.0)
net = load_net("phantom-petct-2d")
seconds = []
for mirror in (False, True):
    start = time.perf_counter()
    predict(net, image, mirror=mirror)
    seconds.append(time.perf_counter() - start)
    seconds.append(peak_megabytes())
print(*seconds)
"""


def architecture(dims: int, widths: tuple[int, ...] = WIDTHS) -> Architecture:
    """BasicUNet in our words."""
    return Architecture(
        dims, 1, CLASSES, widths, ((2,) * dims,) * 4, downsample="pool", slope=0.1,
        deep_supervision=False,
    )  # fmt: skip


def torch_net(dims: int, widths: tuple[int, ...], seed: int) -> Any:
    import torch
    from monai.networks.nets.basic_unet import BasicUNet

    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    features = (*widths, widths[0])
    return BasicUNet(spatial_dims=dims, in_channels=1, out_channels=CLASSES, features=features)


def copy_weights(net: UNet, theirs: Any) -> UNet:
    """Our network with the weights of BasicUNet."""

    def array(tensor: Any) -> np.ndarray:
        return tensor.detach().numpy()

    def convolution(to: Any, source: Any) -> None:
        to.kernel[...] = jnp.asarray(np.moveaxis(array(source.weight), (0, 1), (-1, -2)))
        to.bias[...] = jnp.asarray(array(source.bias))

    def pair(to: Any, source: Any) -> None:
        for ours, other in ((to.first, source.conv_0), (to.second, source.conv_1)):
            convolution(ours.conv, other.conv)
            ours.norm.scale[...] = jnp.asarray(array(other.adn.N.weight))
            ours.norm.shift[...] = jnp.asarray(array(other.adn.N.bias))

    pair(net.encoder[0], theirs.conv_0)
    for k in range(1, 5):
        pair(net.encoder[k], getattr(theirs, f"down_{k}").convs)
        up = getattr(theirs, f"upcat_{5 - k}")
        pair(net.decoder[k - 1], up.convs)
        net.up[k - 1].kernel[...] = jnp.asarray(
            np.moveaxis(array(up.upsample.deconv.weight), 1, -1)
        )
        net.up[k - 1].bias[...] = jnp.asarray(array(up.upsample.deconv.bias))
    convolution(net.heads[0], theirs.final_conv)
    return net


def matched_pair(
    dims: int, widths: tuple[int, ...] = WIDTHS, seed: int = 0
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Our network and theirs with equal weights, as functions (batch, *space, channel) -> logits.

    Widths must halve or stay on the way up as BasicUNet has it.
    """
    import torch

    theirs = torch_net(dims, widths, seed)
    net = copy_weights(UNet(architecture(dims, widths)), theirs)

    def other(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = theirs(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
        return np.moveaxis(out.numpy(), 1, -1)

    return lambda x: np.asarray(net(jnp.asarray(x)).logits[0]), other


def run(quick: bool) -> Result:
    rows = []
    for dims, edge in SIZES.items():
        edge = edge // 2 if quick else edge
        times = timings(dims, edge, 3 if quick else (15 if dims == 2 else 5))
        for kind, label in KINDS.items():
            pair = Way("jax", kind, large=kind == "step"), Way("torch", kind)
            size = f"{dims}D {edge}^{dims} {label}"
            memory = [peak(way, dims, edge) for way in pair]
            rows += [
                _beside(f"{size}, time over PyTorch's", times, pair, at_most=1.0),
                Row(f"{size}, peak memory over PyTorch's", memory[0] / memory[1], "x", at_most=1.0,
                    note=f"{memory[0]:.0f} MB against {memory[1]:.0f} MB, whole process"),
            ]  # fmt: skip
            for large, what in ((True, "both in large pages"), (False, "both without")):
                both = Way("jax", kind, large), Way("torch", kind, large)
                if page_settings() and both != pair and times.keys() >= set(both):
                    rows.append(_beside(f"the same, {what}", times, both))
    rows += sliding_window(8 if quick else VOLUME[2])
    details = where_a_step_goes(2 if quick else 1)
    notes = [
        f"MONAI BasicUNet, widths {WIDTHS}, float32, {THREADS} threads, one example; the same "
        "weights on both sides (a test holds their outputs equal). Times: medians of passes that "
        "take turns. Memory: the largest resident set of a fresh process that does nothing else. "
        "Below, where a training step goes: seconds of XLA's operations, added up over threads, as "
        "shares of their sum.",
        *TRIED,
    ]
    return Result("Networks beside PyTorch", rows, notes, details)


class Way(NamedTuple):
    """A kind of pass by one of the frameworks, with its memory in large pages or as it comes."""

    framework: str
    kind: str
    large: bool = False


def _beside(figure: str, times: dict[Way, float], pair: tuple[Way, Way], **asked: float) -> Row:
    ours, theirs = (times[way] for way in pair)
    note = f"{1e3 * ours:.0f} ms against {1e3 * theirs:.0f} ms"
    return Row(figure, ours / theirs, "x", note=note, **asked)


def where_a_step_goes(smaller: int = 1) -> list[dict[str, Any]]:
    """Shares of a training step by part, one column for each number of dimensions."""
    shares: dict[str, dict[str, Any]] = {}
    for dims, edge in SIZES.items():
        step, inputs = training_step(dims, edge // smaller)
        compiled = step.lower(*inputs).compile()
        call = _going_on(compiled, inputs)
        found = seconds_by_part(compiled, call, _part, 10 if dims == 2 else 2)
        for part, seconds in found.items():
            share = f"{seconds / sum(found.values()):.1%}"
            shares.setdefault(part, {"part": part})[f"{dims}D {edge // smaller}^{dims}"] = share
    return list(shares.values())


def _going_on(step: Callable[..., Any], inputs: tuple[Any, ...]) -> Callable[[], None]:
    """A call that makes the next step, on what the one before has learned."""
    learned, *data = inputs

    def call() -> None:
        nonlocal learned
        learned = jax.block_until_ready(step(learned, *data))

    return call


def _part(scopes: str) -> str:
    """What an operation of a training step is for, by the scopes in `nets/`."""
    back = "transpose(" in scopes
    if "kernel gradient" in scopes:
        return "convolution, kernel gradient"
    if "convolution" in scopes:
        return f"convolution, {'input gradient' if back else 'forward'}"
    for name in ("norm", "rectifier", "pooling", "up-sampling"):
        if name in scopes:
            return f"{name}, {'backward' if back else 'forward'}"
    if "concatenate" in scopes or "split" in scopes:
        return "concatenation of skips"
    return "loss, optimiser" if scopes else "copies made by the compiler"


def sliding_window(slices: int) -> list[Row]:
    """A PET/CT volume through the shipped 2D network in a fresh process, compiling included."""
    command = [sys.executable, "-c", WINDOWS, str(slices)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    plain, memory, mirrored, _ = map(float, out.split()[-4:])
    size = f"{VOLUME[0]}x{VOLUME[1]}x{slices}"
    return [
        Row(f"sliding window over {size} PET/CT, 2D network", plain, "s", at_most=20,
            note="windows overlap by half, no mirroring; compiling included"),
        Row("its peak memory, whole process", memory, "MB", at_most=2000),
        Row("the same with four mirrorings", mirrored, "s"),
    ]  # fmt: skip


def timings(dims: int, edge: int, repeats: int) -> dict[Way, float]:
    """Median seconds of each way's passes, which take turns.

    In 3D, where a process takes gigabytes, of the ways that are asked about alone.
    """
    ways = [Way("jax", "forward"), Way("torch", "forward"), Way("jax", "step", large=True),
            Way("torch", "step")]  # fmt: skip
    if dims == 2:
        ways += [Way("jax", "step"), Way("torch", "step", large=True)]
    found: dict[Way, list[float]] = {way: [] for way in ways}
    with ExitStack() as opened:
        waiting = {way: opened.enter_context(_process("wait", way, dims, edge)) for way in ways}
        for _ in range(1 + repeats):
            for way, process in waiting.items():
                assert process.stdin
                assert process.stdout
                process.stdin.write("once\n")
                process.stdin.flush()
                found[way].append(float(process.stdout.readline()))
    return {way: float(np.median(each[1:])) for way, each in found.items()}


def _process(what: str, way: Way, dims: int, edge: int) -> subprocess.Popen[str]:
    given = (way.framework, way.kind, str(dims), str(edge))
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.networks", what, *given], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={name: said for name, said in os.environ.items() if name != TUNABLES}
        | (page_settings() if way.large else {}),
    )  # fmt: skip


def _example(dims: int, edge: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, *(edge,) * dims, 1)).astype(np.float32)
    return x, (x[..., 0] > 0).astype(np.int32)


def jax_calls(dims: int, edge: int) -> dict[str, Callable[[], Any]]:
    graph, state = nnx.split(random_net(architecture(dims)))
    x = jnp.asarray(_example(dims, edge)[0])

    @jax.jit
    def forward(state: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(x).logits[0]

    step, inputs = training_step(dims, edge)
    return {
        "forward": lambda: jax.block_until_ready(forward(state, x)),
        "step": _going_on(Thrifty(step), inputs),
    }


def training_step(dims: int, edge: int) -> tuple[Any, tuple[Any, ...]]:
    """The loss, its gradients and an Adam update: a compiled function and what it is called on.

    The first argument, weights and moments, is given away for the new ones, as in training.
    """
    graph, state = nnx.split(random_net(architecture(dims)))
    x, labels = (jnp.asarray(v) for v in _example(dims, edge))
    optimiser = optax.adam(1e-3)

    def loss(state: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, state)(x).logits[0]
        return cross_entropy(logits, labels)

    @partial(jax.jit, donate_argnums=0)
    def step(learned: tuple[Any, Any], x: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        state, moments = learned
        slope = jax.grad(loss)(state, x, labels)
        move, moments = optimiser.update(slope, moments)
        return optax.apply_updates(state, move), moments

    return step, ((state, optimiser.init(state)), x, labels)


def torch_calls(dims: int, edge: int) -> dict[str, Callable[[], Any]]:
    import torch

    net = torch_net(dims, WIDTHS, 0)
    x, labels = _example(dims, edge)
    images = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    targets = torch.from_numpy(labels).long()
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)

    def forward() -> None:
        with torch.no_grad():
            net(images)

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images), targets).backward()
        optimiser.step()

    return {"forward": forward, "step": step}


def peak(way: Way, dims: int, edge: int) -> float:
    """Largest resident megabytes of a fresh process that makes two such passes."""
    process = _process("peak", way, dims, edge)
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{way} ended with status {process.returncode}")
    return float(said.split()[-1])


def _work(what: str, framework: str, kind: str, dims: str, edge: str) -> None:
    """A process of one way: its peak, or passes whose seconds it says, one a line that it reads."""
    call = (jax_calls if framework == "jax" else torch_calls)(int(dims), int(edge))[kind]
    call()
    if what == "peak":
        call()
        print(peak_megabytes())
        return
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        print(time.perf_counter() - start, flush=True)


def peak_megabytes() -> float:
    """Most resident memory of this process since it began, MB.

    Not `ru_maxrss`: a new process inherits that of the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8").split("\n")
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
    return int(peak) / 1000


if __name__ == "__main__":
    _work(*sys.argv[1:])
