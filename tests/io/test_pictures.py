"""Are pictures and arrays without spacing read as they are, in pixels?"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Picture

from aistat_jax._errors import InputError
from aistat_jax.io.nifti import read_channel, read_image, read_mask
from tests.io.volumes import refuse


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_a_picture_is_read_upright(tmp_path, mode):
    rows = np.zeros((6, 9), dtype=np.uint16 if mode == "I;16" else np.uint8)
    rows[0, 2:5] = 200  # a bar at the top left
    picture = Picture.fromarray(rows)
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "p.png")
    channel = read_channel(tmp_path / "p.png")
    assert (channel.unit, channel.grid.shape) == ("px", (9, 6, 1))
    np.testing.assert_array_equal(np.argwhere(channel.values[:, :, 0] == 200)[:, 1], 5)
    np.testing.assert_array_equal(np.argwhere(channel.values[:, :, 0] == 200)[:, 0], [2, 3, 4])
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png", channel), channel.values > 0)


def test_an_array_is_read_as_it_is(tmp_path, rng):
    values = rng.normal(size=(5, 6, 7))
    np.savez_compressed(tmp_path / "a.npz", ct=values)
    channel = read_channel(tmp_path / "a.npz", "CT")
    assert (channel.unit, channel.quantity) == ("px", "HU")
    np.testing.assert_array_equal(channel.values, values)


def test_unusable_pictures_and_arrays_are_refused(tmp_path, pet, rng):
    colours = rng.integers(0, 255, size=(5, 5, 3), dtype=np.uint8)
    Picture.fromarray(colours).save(tmp_path / "c.png")
    refuse(tmp_path / "c.png", "colour picture; save it as greyscale")
    np.savez(tmp_path / "two.npz", a=np.eye(3), b=np.eye(3))
    refuse(tmp_path / "two.npz", "holds 2 arrays")
    np.savez(tmp_path / "object.npz", a=np.array([{}], dtype=object))
    refuse(tmp_path / "object.npz", "not a readable .npz of numbers")
    for name in ("x.png", "x.npz"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        refuse(tmp_path / name, "not a readable")
    np.savez(tmp_path / "px.npz", np.eye(4))
    with pytest.raises(InputError, match="PT in mm, CT in px"):
        read_image(PT=pet, CT=tmp_path / "px.npz")
    with pytest.raises(InputError, match="does not match image grid"):
        read_mask(tmp_path / "px.npz", read_channel(pet))


def test_real_pictures(data_root):
    folder = data_root / "sunnybrook_lv_png"
    path = sorted((folder / "Images").glob("*.png"))[0]
    channel = read_channel(path, "MR")
    mask = read_mask(folder / "Labels" / path.name, channel)
    assert channel.values[mask].mean() > channel.values[~mask].mean()
