"""Posterior contours with honest error bars: image -> evidence -> posterior -> band -> grade."""

# The public names and where each lives are those of __init__.pyi, which editors read too; a room
# is imported when one of its names is first asked for.
import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
