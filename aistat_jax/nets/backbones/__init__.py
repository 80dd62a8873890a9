"""Which networks are there? One line each; the file of a network is imported when it is built.

The contour head and the boundary model know none of them: whatever stands here takes the same
inputs and gives the same `Output`, log-odds at one or more resolutions and the last features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aistat_jax._errors import InputError


@dataclass(frozen=True)
class Backbone:
    """One kind of network.

    title: as people call it. net: its class, or "module:Class" to be imported when it is built;
    called with an `Architecture` it gives the module, and its class attribute `Options` is the
    record of what else may be chosen, or absent. dims: in which dimensions it exists. widths: of
    its stages, finest first, in shares of the base width; none: they double, and how often it
    steps down follows from the patch. deep: whether every stage of its decoder speaks.
    features: last features in shares of the finest width. remedy: what is wrong and what to do
    where its answer is not a number.
    """

    title: str
    net: str | type
    dims: tuple[int, ...] = (2, 3)
    widths: tuple[float, ...] = ()
    deep: bool = False
    features: int = 1
    remedy: str = "look for extreme values in the image, or train it anew"

    @property
    def steps(self) -> int | None:
        """How many steps down it takes, whatever the patch; None where the patch decides."""
        return len(self.widths) - 1 if self.widths else None


NETS = "aistat_jax.nets"
HERE = f"{NETS}.backbones"
BACKBONES: dict[str, Backbone] = {
    "unet": Backbone("U-Net", f"{NETS}.unet:UNet", deep=True),
    "resenc": Backbone("residual-encoder U-Net", f"{HERE}.resenc:ResidualEncoderUNet", deep=True),
    "vnet": Backbone("V-Net", f"{HERE}.vnet:VNet", features=2),
    "ukan": Backbone("U-KAN", f"{HERE}.ukan:UKAN", dims=(2,), widths=(0.5, 1, 4, 4, 5, 8)),
    "transunet": Backbone(
        "TransUNet", f"{HERE}.transunet:TransUNet", dims=(2,), widths=(0.5, 2, 4, 8, 24)
    ),
    "iukan": Backbone(
        "Implicit U-KAN 2.0",
        f"{HERE}.iukan:ImplicitUKAN",
        dims=(2,),
        widths=(0.25, 1, 2, 4, 5),
        remedy="its differential equation does not reach its tolerance; allow more max_steps or a "
        "larger tolerance, or take steps of equal length (tolerance 0)",
    ),
}


def backbone(name: str) -> Backbone:
    """The backbone of that name. Raises InputError for an unknown one."""
    if name not in BACKBONES:
        raise InputError(f"unknown `backbone` {name!r}; use one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def class_of(name: str) -> Any:
    """The class of a backbone's network. Raises InputError for what is not installed."""
    from importlib import import_module

    net = backbone(name).net
    if not isinstance(net, str):
        return net
    module, member = net.split(":")
    try:
        return getattr(import_module(module), member)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("aistat_jax"):
            raise
        raise InputError(
            f"the `backbone` {name} needs the package {error.name}; install aistat_jax[backbones]"
        ) from error


def options_of(name: str, given: tuple[tuple[str, Any], ...]) -> Any:
    """The options of a backbone's network as its own record; None for one without any.

    Raises InputError for names it does not have, and for values that its record refuses.
    """
    record = getattr(class_of(name), "Options", None)
    known = {} if record is None else record.__dataclass_fields__
    for option, value in given:
        if option not in known:
            raise InputError(
                f"the `backbone` {name} has no option {option!r}; it has "
                f"{', '.join(known) or 'none'}"
            )
        kind = known[option].type
        if not _is(value, kind):
            raise InputError(
                f"the option {option} of the `backbone` {name} must be {kind}, got {value!r}"
            )
    return None if record is None else record(**dict(given))


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of a kind, as annotations write it: numbers, words and tuples of them."""
    if kind.startswith("tuple["):
        inner = "tuple[int, ...]" if kind.startswith("tuple[tuple[") else "int"
        return isinstance(value, tuple) and all(_is(each, inner) for each in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    found = {"int": number and isinstance(value, int), "float": number}
    return found.get(kind, isinstance(value, {"bool": bool, "str": str}.get(kind, ())))
