"""What is the residual-encoder U-Net? nnU-Net's, with most of its convolutions on the way down.

Source: Isensee et al. 2024, "nnU-Net revisited", MICCAI (arXiv 2404.09556), presets ResEnc M, L
and XL; the block is He et al. 2016's (equation 1, y = F(x) + x) with the short cut of He et al.
2019 ("bag of tricks", ResNet-D: averaged first, then projected). The figure in words: a stem of one
convolution; at each stage a number of residual blocks, 1, 3, 4, 6, 6, ..., the first of which
steps down; on the way up a transposed convolution, the skip beside it, and one convolution. Every
convolution is followed by instance norm and a leaky rectifier; each decoder stage speaks.
"""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import options_of
from aistat_jax.nets.blocks import Conv, ConvNormAct, PlainBlock, ResidualBlock, Upsample
from aistat_jax.nets.network import Output, ascend, check_input, dropped

BLOCKS = (1, 3, 4)  # of the first stages; 6 from there on


@dataclass(frozen=True)
class Options:
    """windows: of every stage's convolutions (3 along every axis); blocks: residual blocks of every
    stage (1, 3, 4, 6, ...); decoder_convolutions: of every decoder stage (1), finest first; stem:
    features of the first convolution (the finest stage's). Empty or 0 for these defaults."""

    windows: tuple[tuple[int, ...], ...] = ()
    blocks: tuple[int, ...] = ()
    decoder_convolutions: tuple[int, ...] = ()
    stem: int = 0

    def filled(self, a: Architecture) -> Options:
        """The same with nothing left empty. Raises InputError for another number of stages."""
        stages = len(a.widths)
        full = Options(
            self.windows or ((3,) * a.dims,) * stages,
            self.blocks or (*BLOCKS, *(6,) * stages)[:stages],
            self.decoder_convolutions or (1,) * len(a.strides),
            self.stem or a.widths[0],
        )
        counts = [len(v) for v in (full.windows, full.blocks, full.decoder_convolutions)]
        if counts != [stages, stages, len(a.strides)]:
            raise InputError(f"options of resenc must be of {stages} stages, got {counts}")
        return full


class ResidualEncoderUNet(nnx.Module):
    """See the head of this file."""

    Options = Options

    def __init__(self, a: Architecture) -> None:
        of: Options = options_of(a.backbone, a.options).filled(a)
        ones = (1,) * a.dims
        self.stem = ConvNormAct(a.input_channels, of.stem, ones, a.slope, of.windows[0])
        inputs, steps = (of.stem, *a.widths[:-1]), (ones, *a.strides)
        self.encoder = nnx.List(
            [
                nnx.List(
                    [
                        ResidualBlock(w if n else i, w, ones if n else s, a.slope, window)
                        for n in range(count)
                    ]
                )
                for i, w, s, window, count in zip(
                    inputs, a.widths, steps, of.windows, of.blocks, strict=True
                )
            ]
        )
        coarse_to_fine = range(len(a.strides) - 1, -1, -1)
        self.up = nnx.List(
            [Upsample(a.widths[k + 1], a.widths[k], a.strides[k]) for k in coarse_to_fine]
        )
        self.decoder = nnx.List(
            [
                PlainBlock(
                    2 * a.widths[k], a.widths[k], ones, a.slope, of.windows[k],
                    of.decoder_convolutions[k],
                )
                for k in coarse_to_fine
            ]
        )  # fmt: skip
        spoken = coarse_to_fine if a.deep_supervision else coarse_to_fine[-1:]
        self.heads = nnx.List([Conv(a.widths[k], a.classes, ones, ones) for k in spoken])
        self.architecture = a

    def __call__(self, x: Float[Array, "batch *space channel"], key: Key | None = None) -> Output:
        """As `UNet`'s."""
        a = self.architecture
        check_input(a, x.shape)
        x, skips = self.stem(x), []
        for k, stage in enumerate(self.encoder):
            for block in stage:
                x = block(x)
            x = dropped(x, a.dropout, key, k)
            skips.append(x)
        return ascend(a, self.up, self.decoder, self.heads, skips, key)
