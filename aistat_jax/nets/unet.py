"""What is the U-Net? Down by blocks and steps, and up again beside what was seen on the way."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import options_of
from aistat_jax.nets.blocks import Conv, PlainBlock, ResidualBlock, Upsample, max_pool
from aistat_jax.nets.network import Output, ascend, check_input, dropped

KINDS = {"plain": PlainBlock, "residual": ResidualBlock}


@dataclass(frozen=True)
class Options:
    """What networks of others differ in; empty means what `Architecture` says.

    windows: of every stage's convolutions (3 along every axis); convolutions and
    decoder_convolutions: how many a stage has (2), finest first; up_widths and decoder_widths:
    features after every up-sampling and of every decoder block, finest first (the stage's).
    """

    windows: tuple[tuple[int, ...], ...] = ()
    convolutions: tuple[int, ...] = ()
    decoder_convolutions: tuple[int, ...] = ()
    up_widths: tuple[int, ...] = ()
    decoder_widths: tuple[int, ...] = ()

    def filled(self, a: Architecture) -> Options:
        """The same with nothing left empty. Raises InputError for another number of stages."""
        stages, steps = len(a.widths), len(a.strides)
        full = Options(
            self.windows or ((3,) * a.dims,) * stages,
            self.convolutions or (2,) * stages,
            self.decoder_convolutions or (2,) * steps,
            self.up_widths or a.widths[:-1],
            self.decoder_widths or a.widths[:-1],
        )
        counts = [len(v) for v in vars(full).values()]
        if counts != [stages, stages, steps, steps, steps]:
            raise InputError(f"options of the U-Net must be of {stages} stages, got {counts}")
        if any(len(w) != a.dims or any(n % 2 == 0 for n in w) for w in full.windows):
            raise InputError(f"windows must be {a.dims} odd numbers each, got {full.windows}")
        return full


class UNet(nnx.Module):
    """Encoder, decoder and skips (Ronneberger et al. 2015; Isensee et al. 2021 for its shape).

    The plain form with pooling and widths (32, 32, 64, 128, 256) is MONAI's BasicUNet.
    """

    Options = Options

    def __init__(self, a: Architecture) -> None:
        block = KINDS[a.block]
        of: Options = options_of(a.backbone, a.options).filled(a)
        ones = (1,) * a.dims
        pooled = a.downsample == "pool"
        inputs = (a.input_channels, *a.widths[:-1])
        steps = (ones, *(ones if pooled else s for s in a.strides))
        self.encoder = nnx.List(
            [
                block(i, o, s, a.slope, w, n)
                for i, o, s, w, n in zip(
                    inputs, a.widths, steps, of.windows, of.convolutions, strict=True
                )
            ]
        )
        coarse_to_fine = range(len(a.strides) - 1, -1, -1)
        below = (*of.decoder_widths[1:], a.widths[-1])
        self.up = nnx.List(
            [Upsample(below[k], of.up_widths[k], a.strides[k]) for k in coarse_to_fine]
        )
        self.decoder = nnx.List(
            [
                block(
                    a.widths[k] + of.up_widths[k], of.decoder_widths[k], ones, a.slope,
                    of.windows[k], of.decoder_convolutions[k],
                )
                for k in coarse_to_fine
            ]
        )  # fmt: skip
        spoken = coarse_to_fine if a.deep_supervision else coarse_to_fine[-1:]
        self.heads = nnx.List([Conv(of.decoder_widths[k], a.classes, ones, ones) for k in spoken])
        self.architecture = a

    def __call__(self, x: Float[Array, "batch *space channel"], key: Key | None = None) -> Output:
        """Logits and features of a batch; with a key, features are dropped at random.

        Shapes: x (batch, *space, channels + guidance), every edge a multiple of
        `architecture.multiple`. Raises InputError for another shape.
        """
        a = self.architecture
        check_input(a, x.shape)
        skips = []
        for k, block in enumerate(self.encoder):
            if k and a.downsample == "pool":
                x = max_pool(x, a.strides[k - 1])
            x = dropped(block(x), a.dropout, key, k)
            skips.append(x)
        return ascend(a, self.up, self.decoder, self.heads, skips, key)
