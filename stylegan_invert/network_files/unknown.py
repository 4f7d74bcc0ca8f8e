"""What a file seems to hold that no family opens, and what would help: the words of its error."""

import re
from collections.abc import Mapping
from typing import Any

from ..files.tensors import TensorRecord, tables, unwrapped

Tensors = Mapping[str, TensorRecord]

KNOWN = (
    ("a discriminator of StyleGAN2", r"b4\.(fc|out)\.weight", r"b\d+\.fromrgb\.weight"),
    ("a discriminator of rosinality's StyleGAN2", r"final_linear\.1\.weight", r"convs\.0\.0\.weight"),
    ("a discriminator of BigGAN-PyTorch", r"embed\.weight", r"blocks\.0\.0\.conv1\.weight"),
    ("a mapping network of StyleGAN without its synthesis network", r"(mapping\.)?fc0\.weight"),
    ("a synthesis network of StyleGAN without its mapping network", r"(synthesis\.)?b4\.const"),
    ("a ResNet", r"layer1\.0\.conv1\.weight", r"(fc\.weight|layer4\..*)"),
    ("a VGG or AlexNet", r"features\.0\.weight", r"classifier\.\d\.weight"),
    ("an Inception", r"Mixed_5b\..*"),
    ("a diffusion model", r"(model\.diffusion_model\.)?(input_blocks|down_blocks)\.0\..*"),
    ("an autoencoder", r"encoder\..*", r"decoder\..*"),
    ("a vision transformer", r"(blocks|layers)\.0\.attn\..*"),
    ("a network from pictures to pictures (pix2pix, CycleGAN)", r"model\.\d+\.(conv_block|model)\..*"),
    ("a StyleGAN of rosinality/style-based-gan-pytorch", r"generator\.progression\.0\..*"),
    ("a ProGAN of pytorch_GAN_zoo", r"scaleLayers\.0\..*"),
    ("a FastGAN", r"feat_8\..*"),
    ("a DCGAN with an embedded label (ACGAN and others)", r"(label_emb|label_embedding|embed)\.weight"),
)
"""Networks that are not read: what they are, and patterns of names, each of which one of their tensors has."""

FORMATS = (
    "pickles and state dicts of official StyleGAN2 and StyleGAN3, checkpoints of rosinality and pSp, state dicts of "
    "BigGAN-PyTorch and of DCGANs, checkpoints of WaveGAN"
)


def kind(tensors: Tensors) -> str:
    """What the tensors of a state dict are, in words; empty if nothing is known of them."""
    names = list(unwrapped(tensors))
    for what, *patterns in KNOWN:
        if all(any(re.fullmatch(pattern, name) for name in names) for pattern in patterns):
            return what
    shapes = [tuple(t.shape) for name, t in tensors.items() if name.endswith("weight") and len(t.shape) in (2, 4)]
    if len(shapes) >= 2 and all(len(shape) == 2 for shape in shapes):
        chained = all(after[1] == before[0] for before, after in zip(shapes, shapes[1:]))
        return "a network of dense layers alone" if chained else ""
    inwards = len(shapes) >= 2 and all(len(a) == 4 and a[1] in (b, 1, 3, 4) for a, b in zip(shapes[:1], [3]))
    if inwards and all(b[1] == a[0] for a, b in zip(shapes, shapes[1:]) if len(b) == 4) and shapes[0][0] > 4:
        return "a discriminator or another network that takes pictures" if shapes[0][1] in (1, 3, 4) else ""
    return ""


def in_words(root: Any) -> str:
    """The error of a file in which no family has found a generator: what it seems to be, and what is expected."""
    found = {what for _, tensors, _ in tables(root) if tensors and (what := kind(tensors))}
    if found:
        what = " and ".join(sorted(found))
        reason = f"its tensors seem to be those of {what}, which is not read; expected {FORMATS}"
        if "dense layers alone" in what:
            reason += ". In Python any module with the attributes of generator.latent.LatentGenerator can be used"
        return reason
    keys = ", ".join(map(str, list(root)[:10])) if isinstance(root, dict) else type(root).__name__
    return f"it holds no generator under 'G_ema' (found: {keys[:200]}); expected {FORMATS}"


WHOLE = (
    "; it seems to be a whole module that torch.save(netG) wrote, whose code only its own project has. Save its tensors "
    "there instead: torch.save(netG.state_dict(), file)"
)


def is_whole_module(data: memoryview) -> bool:
    """True if a file holds modules of torch.nn, and not their tensors alone."""
    head = bytes(data[: 2**20])
    return b"_modules" in head and b"torch.nn.modules" in head
