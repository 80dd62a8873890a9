"""What does a case say when nobody is to know whose it is?"""

from __future__ import annotations

from aistat_jax._record import replace
from aistat_jax.case import EXPERT, Case
from aistat_jax.dicom.anonymous import anonymous_origin
from aistat_jax.space.image import Channel, Image

TITLE = "Contours"


def anonymous_case(case: Case) -> Case:
    """A case that names no file and no patient, so that nothing written from it does.

    Of a DICOM series it has what `anonymous_origin` keeps. Times and figures are those of the case;
    what is drawn on the image itself stays: a face, or words that are burned into its pixels.
    """
    channels = [_anonymous(case.image[name]) for name in case.image.names]
    networks = [each for each in case.inputs if each.startswith("network ")]
    inputs = (*(f"channel {name}" for name in case.image.names), *networks)
    title = EXPERT if case.title.startswith(EXPERT) else TITLE
    return replace(case, image=Image.of(*channels), title=title, inputs=inputs)


def _anonymous(channel: Channel) -> Channel:
    origin = None if channel.origin is None else anonymous_origin(channel.origin)
    return replace(channel, source="", origin=origin)
