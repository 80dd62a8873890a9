"""What would a network of somebody else's say? A BasicUNet of MONAI, trained here in PyTorch.

Nothing of this package is in it: its loss, its optimiser and its patches are what a user of MONAI
would write down first. What leaves this module are probabilities, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax.nets.recipes import Drawn

WIDTHS, PATCH, BATCH, RATE = (8, 8, 16, 32, 64, 8), 48, 12, 4e-3
STEPS, QUICK_STEPS = 1000, 200
# Of patches, the share whose middle is near what was drawn, and how far off it may lie, in pixels.
NEAR, ASTRAY = 0.7, 12


def trained(cases: Sequence[Drawn], steps: int, seed: int = 0) -> Any:
    """A BasicUNet that has learned slices of one channel, each step from a reader at random."""
    import torch
    from monai.losses.dice import DiceCELoss
    from monai.networks.nets.basic_unet import BasicUNet

    torch.set_num_threads(1)  # threads that wait for each other over so small a net cost more
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=WIDTHS)
    images = np.stack([standardised(case) for case in cases])
    masks = np.stack([case.masks[:, :, 0] for case in cases])
    loss_of = DiceCELoss(sigmoid=True, batch=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=RATE, total_steps=steps)
    net.train()
    for _ in range(steps):
        x, y = zip(*(patch(images, masks, rng) for _ in range(BATCH)), strict=True)
        loss = loss_of(net(torch.from_numpy(np.stack(x))), torch.from_numpy(np.stack(y)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
    return net.eval()


def standardised(case: Drawn) -> np.ndarray:
    values = case.image.primary.values[:, :, 0].astype(np.float32)
    return (values - values.mean()) / max(float(values.std()), 1e-6)


def patch(
    images: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A patch of a slice and one reader's mask of it (1, u, v), turned and mirrored at random."""
    n, reader = int(rng.integers(len(images))), int(rng.integers(masks.shape[-1]))
    most = np.array(images.shape[1:]) - PATCH
    corner = rng.integers(0, most + 1)
    if rng.random() < NEAR:
        middle = np.argwhere(masks[n].any(axis=-1)).mean(axis=0).astype(int)
        astray = rng.integers(-ASTRAY, ASTRAY + 1, 2)
        corner = np.clip(middle + astray - PATCH // 2, 0, most)
    at = tuple(slice(c, c + PATCH) for c in corner)
    turns, mirror = int(rng.integers(4)), int(rng.integers(2))
    x, y = (
        np.rot90(part[::-1] if mirror else part, turns)
        for part in (images[n][at], masks[n][(*at, reader)])
    )
    x = x * np.float32(rng.uniform(0.8, 1.25)) + np.float32(rng.normal(0, 0.2))
    return np.ascontiguousarray(x)[None], np.ascontiguousarray(y, dtype=np.float32)[None]


def probability(net: Any, case: Drawn) -> np.ndarray:
    """What it says of a slice: the probability of each pixel (i, j, 1)."""
    import torch

    with torch.no_grad():
        logit = net(torch.from_numpy(standardised(case)[None, None]))
    return torch.sigmoid(logit)[0, 0].numpy().astype(float)[..., None]
