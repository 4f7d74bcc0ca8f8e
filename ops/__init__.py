"""The numerical operations of the StyleGAN2 family, one file each.

Import this package as ``stylegan_invert.ops``. It lies at the top of a checkout only because the project was ordered
that way; under its bare name its operators could be loaded twice, so that import raises.
"""

if not __name__.startswith("stylegan_invert."):
    raise ImportError(
        f"this package was imported as {__name__!r}; its name is 'stylegan_invert.ops'. "
        "Write 'import stylegan_invert.ops' (from a checkout, run Python in the folder that holds 'stylegan_invert')."
    )

from .bias_act import ACTIVATIONS, bias_act
from .modulated_conv2d import conv2d, conv2d_resample, modulated_conv2d
from .normalize import normalize_2nd_moment
from .upfirdn2d import downsample2d, setup_filter, upfirdn2d, upsample2d
from .winograd import no_weight_gradients

__all__ = [
    "ACTIVATIONS",
    "bias_act",
    "conv2d",
    "conv2d_resample",
    "downsample2d",
    "modulated_conv2d",
    "no_weight_gradients",
    "normalize_2nd_moment",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
]
