"""The networks equal the official ones: golden outputs of NVIDIA's code (golden/networks.npz, made by official.py)."""
# Takes at most 5 CPU seconds.

import pytest
import torch

from stylegan_invert.networks.discriminators import Discriminator, MinibatchStdLayer
from stylegan_invert.networks.stylegan2 import Generator

from official import CONFIGS, HERE, networks, outputs
from support import assert_close, assert_same_outputs, load_npz

GOLDEN = load_npz(HERE / "golden" / "networks.npz")


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_are_official(name):
    golden = {key.partition("/")[2]: GOLDEN[key] for key in GOLDEN if key.startswith(name + "/")}
    got = outputs(*networks(CONFIGS[name], Generator, Discriminator))
    # The minibatch's statistics make logits depend on the whole batch, so all four are computed; two are in the file.
    assert_same_outputs({k: v[:2] for k, v in got.items()}, golden)


def test_fused_and_activation_scaling_forms_agree(cats):
    ws = cats.G.mapping(torch.randn(3, 128, generator=torch.Generator().manual_seed(0)))
    a, b = (cats.G.synthesis(ws, noise_mode="const", fused_modconv=fused).numpy() for fused in (False, True))
    assert_close("image", a, b, 1e-5)


def test_a_batch_gives_what_its_members_give(cats):
    ws = cats.G.mapping(torch.randn(3, 128, generator=torch.Generator().manual_seed(0)))
    together = cats.G.synthesis(ws, noise_mode="const")
    alone = torch.cat([cats.G.synthesis(w[None], noise_mode="const") for w in ws])
    assert_close("image", together.numpy(), alone.numpy(), 1e-5)


def test_given_noise_maps_replace_the_stored_ones(cats):
    synthesis = cats.G.synthesis
    ws = cats.G.mapping(torch.randn(2, 128, generator=torch.Generator().manual_seed(0)))
    stored = {name: synthesis.get_submodule(name).noise_const[None, None] for name in synthesis.noise_shapes()}
    assert torch.equal(synthesis(ws, noise_mode="const"), synthesis(ws, noise_mode="none", noise=stored))
    other = {name: torch.cat([torch.zeros_like(value), value]) for name, value in stored.items()}  # one per picture
    mixed = synthesis(ws, noise_mode="const", noise=other)
    assert_close("first", mixed[:1].numpy(), synthesis(ws[:1], noise_mode="none").numpy(), 1e-5)
    assert_close("second", mixed[1:].numpy(), synthesis(ws[1:], noise_mode="const").numpy(), 1e-5)
    with pytest.raises(ValueError, match="b99"):
        synthesis(ws, noise={"b99.conv0": torch.zeros(1, 1, 4, 4)})


def test_shapes_are_named_in_errors(cats):
    with pytest.raises(ValueError, match=r"z has shape \(1, 5\); expected \(any, 128\)"):
        cats.G.mapping(torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"ws has shape \(1, 128\); expected \(any, 8, 128\)"):
        cats.G.synthesis(torch.zeros(1, 128))
    with pytest.raises(ValueError, match="10 classes and got no label"):
        Generator(8, 10, 8, 8, 3).mapping(torch.zeros(1, 8))


def test_w_avg_follows_in_training_mode():
    G = Generator(8, 0, 8, 8, 3, mapping_kwargs={"w_avg_beta": 0.75}).train()
    w = G.mapping(torch.randn(5, 8))
    torch.testing.assert_close(G.mapping.w_avg, w[:, 0].mean(0).detach() * 0.25)
    before = G.mapping.w_avg.clone()
    G.mapping(torch.randn(5, 8), skip_w_avg_update=True)
    assert torch.equal(before, G.mapping.w_avg)


def test_minibatch_std_is_the_deviation_over_strided_groups():
    x = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    got = MinibatchStdLayer(group_size=3, num_channels=2)(x)
    assert torch.equal(got[:, :4], x)
    for i in range(6):  # picture i is in the group of i modulo 2
        for f in range(2):
            group = x[i % 2 :: 2, 2 * f : 2 * f + 2]
            expected = (group.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
            torch.testing.assert_close(got[i, 4 + f], expected.expand(3, 3))
    with pytest.raises(ValueError, match="groups of 3"):
        MinibatchStdLayer(group_size=3)(torch.zeros(4, 2, 2, 2))


def test_constructor_arguments_are_kept():
    G = Generator(8, 0, 8, 8, 3, synthesis_kwargs={"channel_base": 64})
    again = Generator(*G.init_args, **G.init_kwargs)
    assert {k: v.shape for k, v in G.state_dict().items()} == {k: v.shape for k, v in again.state_dict().items()}
