"""The adversarial losses: each against its paper's formula, and in a run."""
# Takes at most 20 CPU seconds.

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import stylegan_invert as si
from stylegan_invert.cli.main import cli
from stylegan_invert.media.picture_set import PictureSet
from stylegan_invert.training.configs import Options
from stylegan_invert.training.gan import GANTrainer, build
from stylegan_invert.training.gan_losses import ADVERSARIAL, DirectionLoss, StyleGAN2Loss
from stylegan_invert.training.run_options import LOSSES

FORMULAS = {  # of the scores, as numpy arrays: G's loss of generated pictures, D's of generated and of real ones
    "nsgan": (lambda s: np.log1p(np.exp(-s)), lambda s: np.log1p(np.exp(s)), lambda s: np.log1p(np.exp(-s))),
    "lsgan": (lambda s: 0.5 * (s - 1) ** 2, lambda s: 0.5 * s**2, lambda s: 0.5 * (s - 1) ** 2),
    "wgan-gp": (lambda s: -s, lambda s: s, lambda s: -s),
    "hinge": (lambda s: -s, lambda s: -np.minimum(0, -1 - s), lambda s: -np.minimum(0, -1 + s)),
}


def networks(**options):
    torch.manual_seed(0)
    small = dict(z_dim=7, w_dim=8, channel_base=64, channel_max=8, batch=4)
    G, D = build(Options.for_resolution(16, **small, **options))
    return G.requires_grad_(False), D.requires_grad_(False)


def gradients(loss, module, phase, inputs, gain=1.0):
    module.requires_grad_(True)
    module.zero_grad()
    torch.manual_seed(5)
    loss.accumulate_gradients(phase, *inputs, gain=gain)
    module.requires_grad_(False)
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def inputs_of(n=4):
    random = torch.Generator().manual_seed(0)
    img = torch.rand([n, 3, 16, 16], generator=random) * 2 - 1
    return img, torch.zeros(n, 0), torch.randn([n, 7], generator=random), torch.zeros(n, 0)


def test_every_loss_that_can_be_chosen_has_a_formula():
    assert set(LOSSES) == set(ADVERSARIAL) == set(FORMULAS)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_the_papers(name):
    scores = np.linspace(-3, 3, 25)  # no score lies on a corner of the hinge, where slopes have two values
    scores = scores[np.abs(np.abs(scores) - 1) > 1e-6]
    for ours, formula in zip((ADVERSARIAL[name].G, ADVERSARIAL[name].D_fake, ADVERSARIAL[name].D_real), FORMULAS[name]):
        x = torch.from_numpy(scores).requires_grad_(True)
        y = ours(x)
        np.testing.assert_allclose(y.detach(), formula(scores), rtol=1e-12)
        (slope,) = torch.autograd.grad(y.sum(), x)
        numbers = (formula(scores + 1e-6) - formula(scores - 1e-6)) / 2e-6
        np.testing.assert_allclose(slope, numbers, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_phases_use_the_chosen_loss(name):
    """Gradients of both networks follow from the chosen formulas by the chain rule."""
    G, D = networks()
    loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, style_mixing_prob=0, r1_gamma=0, adversarial=name)
    img, c, z, _ = inputs = inputs_of()
    slopes = [lambda s, f=f: torch.from_numpy((f(s + 1e-4) - f(s - 1e-4)) / 2e-4).float() for f in FORMULAS[name]]

    def expected(module, *terms):
        """The gradients of the mean of slope times score, over pairs of pictures and the slope of their loss."""
        module.requires_grad_(True)
        torch.manual_seed(5)
        total = 0
        for pictures, slope in terms:
            scores = D(pictures())
            total = total + (scores * slope(scores.detach().double().numpy())).mean()
        found = torch.autograd.grad(total, list(module.parameters()), allow_unused=True)
        module.requires_grad_(False)
        return torch.cat([g.flatten() for g in found if g is not None])

    def generated():
        return G.synthesis(G.mapping(z))

    close = dict(rtol=1e-2, atol=1e-4)
    terms = (lambda: generated().detach(), slopes[1]), (lambda: img, slopes[2])
    torch.testing.assert_close(gradients(loss, D, "Dmain", inputs), expected(D, *terms), **close)
    torch.testing.assert_close(gradients(loss, G, "Gmain", inputs), expected(G, (generated, slopes[0])), **close)


def test_the_gradient_penalty_is_the_papers():
    """Gulrajani et al., algorithm 1, lines 6 and 7: lambda (|grad D(x)| - 1)^2 between real and generated pictures."""
    G, D = networks()
    loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, style_mixing_prob=0, r1_gamma=10, adversarial="wgan-gp")
    img, _, z, _ = inputs = inputs_of()
    got = gradients(loss, D, "Dreg", inputs, gain=2.0)
    D.requires_grad_(True)
    torch.manual_seed(5)
    fake = G.synthesis(G.mapping(z))
    e = torch.rand([4, 1, 1, 1])
    x = ((1 - e) * img + e * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    value = 2 * 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
    found = torch.autograd.grad(value, list(D.parameters()), allow_unused=True)
    expected = [torch.zeros_like(p) if g is None else g for g, p in zip(found, D.parameters())]
    torch.testing.assert_close(got, torch.cat([g.flatten() for g in expected]), rtol=1e-4, atol=1e-6)
    assert loss.stats.means()["gradient_penalty"] == pytest.approx(float(value.detach()) / 20, rel=1e-4)
    main = gradients(loss, D, "Dmain", inputs)
    assert "r1_penalty" not in loss.stats.means() and len(main) == len(got)


@pytest.fixture
def pictures(tmp_path):
    for i in range(8):
        pixels = np.random.RandomState(i).randint(256, size=(16, 16, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    data = PictureSet(tmp_path)
    data.check()
    return data


@pytest.mark.parametrize("head", ["none", "direction"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_run_takes_every_loss(pictures, name, head):
    options = Options.for_resolution(
        16, loss=name, head=head, z_dim=7, w_dim=8, channel_base=64, channel_max=8, batch=4
    )
    trainer = GANTrainer(options, pictures)
    for _ in range(2):
        trainer.step()
    values = trainer.values()
    assert all(np.isfinite(v) for v in values.values())
    assert ("gradient_penalty" in values) == (name == "wgan-gp") != ("r1_penalty" in values)
    # The penalty of WGAN-GP is part of every step, as in its paper; R1 comes every 16 steps.
    assert [p.name for p in trainer.phases] == (["Gmain", "Dboth"] if name == "wgan-gp" else ["Gmain", "Dmain", "Dreg"])


@pytest.mark.parametrize("mixing", [0, 1])
def test_a_head_for_the_discriminator_alone(mixing):
    """The generator's gradients are those without the embedding loss; the discriminator's are those with it."""
    G, D = networks(head="direction")
    inputs = inputs_of()
    found = {}
    for name, options in (
        ("both", {}),
        ("alone", {"embedding_for": "discriminator"}),
        ("without", {"embedding_weight": 0}),
    ):
        loss = DirectionLoss("cpu", G.mapping, G.synthesis, D, style_mixing_prob=mixing, pl_weight=0, **options)
        found[name] = [gradients(loss, module, f"{k}main", inputs) for k, module in (("G", G), ("D", D))]
        assert "angle" in loss.stats.means()
    torch.testing.assert_close(found["alone"][0], found["without"][0], rtol=1e-4, atol=1e-6)
    assert torch.equal(found["alone"][1], found["both"][1])
    assert (found["both"][0] - found["alone"][0]).abs().max() > 1e-3


def test_the_command_knows_for_whom_the_head_is(pictures, tmp_path):
    args = ["train", "--data", str(pictures.path), "-o", str(tmp_path / "run"), "--embedding-for", "discriminator"]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2 and "--embedding-for has no meaning without --head direction" in result.output
    options = Options.for_resolution(
        16, head="direction", embedding_for="discriminator", z_dim=7, w_dim=8, channel_base=64, channel_max=8, batch=4
    )
    assert GANTrainer(options, pictures).loss.embedding_for == "discriminator"


def test_adaptive_augmentation_needs_a_boundary(pictures):
    with pytest.raises(si.TrainingError, match="no meaning with --loss wgan-gp"):
        Options.for_resolution(16, loss="wgan-gp", augment="ada")
    loss = StyleGAN2Loss("cpu", None, None, None, adversarial="lsgan")
    loss._report("real", torch.tensor([[0.4], [0.6], [0.7], [0.8]]))
    assert loss.real_signs.means()["sign"] == 0.5
