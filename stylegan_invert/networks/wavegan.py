"""WaveGAN: a generator from z to sounds, made of a dense layer and convolutions over time, and its discriminator.

Donahue, McAuley & Puckette, "Adversarial Audio Synthesis" (2019), appendix D; the authors' code is
chrisdonahue/wavegan. Sounds are tensors (N, channels, samples) in [-1, 1].
"""

from typing import Any

import torch

KERNEL = 25  # taps of every convolution
FIRST = 16  # samples of the map that the dense layer gives
MAX_LENGTH = 2**20
UPSAMPLING = ("zeros", "nearest")
EPS = {"official": 1e-3, "port": 1e-5}  # of batch normalisation, by arrangement
ARRANGEMENTS = tuple(EPS)
"""Where the taps of the convolutions lie. "official" is TensorFlow's padding "same". "port" is that of the repository
mostafaelaraby/wavegan-pytorch, in which each transposed convolution gives its output one sample earlier."""


def strides_of(length: int) -> list[int]:
    """The strides of the convolutions of a network for sounds of so many samples: fours, and a last two if need be.

    Raises:
        ValueError: the length is not a power of two from 32 to 2**20.
    """
    if type(length) is not int or length < 2 * FIRST or length > MAX_LENGTH or length & (length - 1):
        raise ValueError(f"length is {length!r}; expected a power of two from {2 * FIRST} to {MAX_LENGTH:,}")
    doublings = (length // FIRST).bit_length() - 1
    return [4] * (doublings // 2) + [2] * (doublings % 2)


class WaveGANGenerator(torch.nn.Module):
    """A generator from z to sounds.

    Args:
        length: samples of a sound, a power of two; 16384, 32768 and 65536 in official code.
        z_dim: the number of entries of z.
        dim: channels of the map before the last convolution; each layer before it has twice as many.
        num_channels: channels of a sound; 1 in official code.
        upsample: "zeros" for transposed convolutions; "nearest" repeats samples and then convolves.
        batch_norm: True puts a batch normalisation behind every layer but the last.
        post_taps: taps of the filter behind the last layer (512 in official code); 0 for none.
        arrangement: one of `ARRANGEMENTS`.
        sample_rate: samples per second of the sounds that it was trained on. It changes no number.
        z_prior: the distribution of z, "uniform" from -1 to 1 in official code, or "normal".

    The modules are named ``dense``, ``dense_norm``, ``up1``, ``up1_norm``, ..., ``post``, in the order of computation.
    A network for 32768 samples of the port without "nearest" makes two samples more, as the port does.
    """

    family = "wavegan"
    c_dim = 0
    dense_layer = "dense"

    def __init__(
        self,
        length: int = 16384,
        z_dim: int = 100,
        dim: int = 64,
        num_channels: int = 1,
        upsample: str = "zeros",
        batch_norm: bool = False,
        post_taps: int = 0,
        arrangement: str = "official",
        sample_rate: int = 16000,
        z_prior: str = "uniform",
    ):
        super().__init__()
        self.init_kwargs: dict[str, Any] = dict(
            length=length, z_dim=z_dim, dim=dim, num_channels=num_channels, upsample=upsample
        )
        self.init_kwargs |= dict(batch_norm=batch_norm, post_taps=post_taps, arrangement=arrangement)
        self.init_kwargs |= dict(sample_rate=sample_rate, z_prior=z_prior)
        strides = strides_of(length)
        _check_words(upsample=(upsample, UPSAMPLING), arrangement=(arrangement, ARRANGEMENTS))
        _check_words(z_prior=(z_prior, ("uniform", "normal")))
        for name, value in (("z_dim", z_dim), ("dim", dim), ("num_channels", num_channels)):
            _check_whole(name, value, 1, 2**16)
        _check_whole("post_taps", post_taps, 0, 2**16)
        _check_whole("sample_rate", sample_rate, 1, 10**6)
        self.z_dim, self.num_channels, self.sample_rate, self.z_prior = z_dim, num_channels, sample_rate, z_prior
        self.batch_norm, self.strides = batch_norm, strides
        channels = [dim << i for i in range(len(strides))][::-1] + [num_channels]
        self.dense = _Dense(z_dim, channels[0])
        self.layer_shapes: dict[str, tuple[int, int]] = {"dense": (channels[0], FIRST)}
        if batch_norm:
            self.dense_norm = torch.nn.BatchNorm1d(channels[0], EPS[arrangement])
        samples = FIRST
        for i, (stride, n, m) in enumerate(zip(strides, channels, channels[1:]), 1):
            layer = _Repeated if upsample == "nearest" else _Transposed
            module = layer(n, m, stride, arrangement)
            samples = samples * stride + module.more
            self.add_module(f"up{i}", module)
            self.layer_shapes[f"up{i}"] = (m, samples)
            if batch_norm and i < len(strides):
                self.add_module(f"up{i}_norm", torch.nn.BatchNorm1d(m, EPS[arrangement]))
        if post_taps:
            self.post = torch.nn.Conv1d(1, 1, post_taps, bias=False)
        self.length = samples
        self.assumed = f"{sample_rate} samples per second"
        _draw_weights(self)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Sounds (N, num_channels, length) of latents (N, z_dim), in [-1, 1] if there is no filter behind."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected (any, {self.z_dim})")
        x = self.dense(z)
        for i in range(1, len(self.strides) + 1):
            if self.batch_norm:
                x = getattr(self, f"up{i - 1}_norm" if i > 1 else "dense_norm")(x)
            x = getattr(self, f"up{i}")(x.relu())
        x = x.tanh()
        if "post" in self._modules:
            taps = self.post.weight.shape[2]
            flat = x.reshape(-1, 1, x.shape[2])  # one filter for every channel
            x = self.post(torch.nn.functional.pad(flat, [(taps - 1) // 2, taps // 2])).reshape(x.shape)
        return x


class WaveGANDiscriminator(torch.nn.Module):
    """A discriminator of sounds.

    Args:
        length: samples of a sound; see `WaveGANGenerator`.
        dim: channels behind the first convolution; each layer has twice as many as the one before.
        num_channels: channels of a sound.
        batch_norm: True puts batch normalisations behind convolutions, in official code behind all but the first.
        arrangement: one of `ARRANGEMENTS`.
        phase_shuffle: in training, what each layer but the last gives is shifted by a random number of samples up to
            this one, and reflected at its ends. The port has none.
    """

    c_dim = 0
    compares_batch = False

    def __init__(
        self,
        length: int = 16384,
        dim: int = 64,
        num_channels: int = 1,
        batch_norm: bool = False,
        arrangement: str = "official",
        phase_shuffle: int = 2,
    ):
        super().__init__()
        self.init_kwargs: dict[str, Any] = dict(
            length=length, dim=dim, num_channels=num_channels, batch_norm=batch_norm
        )
        self.init_kwargs |= dict(arrangement=arrangement, phase_shuffle=phase_shuffle)
        self.strides = strides_of(length)
        _check_words(arrangement=(arrangement, ARRANGEMENTS))
        for name, value in (("dim", dim), ("num_channels", num_channels)):
            _check_whole(name, value, 1, 2**16)
        _check_whole("phase_shuffle", phase_shuffle, 0, FIRST - 1)
        self.num_channels, self.phase_shuffle, self.length = num_channels, phase_shuffle, length
        channels, samples = num_channels, length
        for i, stride in enumerate(self.strides, 1):
            module = _Down(channels, dim << (i - 1), stride, arrangement)
            channels, samples = dim << (i - 1), module.length_of(samples)
            self.add_module(f"down{i}", module)
            if batch_norm and (i > 1 or arrangement == "port"):
                self.add_module(f"down{i}_norm", torch.nn.BatchNorm1d(channels, EPS[arrangement]))
        self.num_features = channels * samples
        self.out = torch.nn.Linear(self.num_features, 1)
        _draw_weights(self)

    def features(self, sounds: torch.Tensor) -> torch.Tensor:
        """The input of the last layer, (N, num_features), for sounds (N, num_channels, length)."""
        x = sounds
        for i in range(1, len(self.strides) + 1):
            x = getattr(self, f"down{i}")(x)
            norm = self._modules.get(f"down{i}_norm")
            x = torch.nn.functional.leaky_relu(x if norm is None else norm(x), 0.2)
            if self.training and self.phase_shuffle and i < len(self.strides):
                x = shuffled(x, self.phase_shuffle)
        return x.flatten(1)

    def score(self, features: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (N, 1) from `features`. There are no classes, so ``c`` is None or empty."""
        return self.out(features)

    def forward(self, sounds: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (N, 1) of sounds (N, num_channels, length)."""
        return self.score(self.features(sounds), c)


class SpectrogramDiscriminator(torch.nn.Module):
    """A discriminator of spectrograms (N, C, F, T), which may help the one of waveforms in training.

    Convolutions of 3x3 with the stride 2, each with twice as many channels as the one before, down to 8 frames or
    frequencies, and a linear layer.

    Args:
        num_channels: channels of a sound.
        frequencies: the number of frequencies.
        frames: the number of frames.
        dim: channels behind the first convolution.

    Source: discriminators of spectrograms are those of Jang et al., "UnivNet" (2021), section 2.2, in a small form.
    """

    def __init__(self, num_channels: int, frequencies: int, frames: int, dim: int):
        super().__init__()
        self.convs = torch.nn.ModuleList()
        n, m = num_channels, dim
        while min(frequencies, frames) > 8:
            self.convs.append(torch.nn.Conv2d(n, m, 3, stride=2, padding=1))
            frequencies, frames, n, m = (frequencies + 1) // 2, (frames + 1) // 2, m, 2 * m
        self.out = torch.nn.Linear(n * frequencies * frames, 1)

    def forward(self, spectrograms: torch.Tensor) -> torch.Tensor:
        """Scores (N, 1) of spectrograms (N, C, F, T)."""
        x = spectrograms
        for conv in self.convs:
            x = torch.nn.functional.leaky_relu(conv(x), 0.2)
        return self.out(x.flatten(1))


def shuffled(x: torch.Tensor, most: int) -> torch.Tensor:
    """Maps (N, C, T), each shifted in time by a random number of samples from -most to most, and reflected at its ends.

    Source: Donahue et al., section 3.3, phase shuffle. Official code draws one shift for a whole batch; here every sound
    has its own.
    """
    n, _, samples = x.shape
    shift = torch.randint(-most, most + 1, [n, 1, 1], device=x.device)
    at = (torch.arange(samples, device=x.device) - shift).abs()
    at = samples - 1 - (samples - 1 - at).abs()
    return x.gather(2, at.expand_as(x))


class _Dense(torch.nn.Linear):
    """A linear layer from (N, in) to (N, channels, 16)."""

    def __init__(self, in_features: int, channels: int):
        super().__init__(in_features, channels * FIRST)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward(z).reshape(len(z), -1, FIRST)


class _Transposed(torch.nn.ConvTranspose1d):
    """A transposed convolution that multiplies the number of samples by its stride.

    Official: y[stride * i + k - (25 - stride) // 2] is the sum of x[i] * w[k], and the last sample is cut off.
    """

    def __init__(self, n: int, m: int, stride: int, arrangement: str):
        port = arrangement == "port"
        super().__init__(n, m, KERNEL, stride, padding=11 if port else (KERNEL - stride) // 2, output_padding=int(port))
        self.more = 2 if port and stride == 2 else 0  # samples above the multiple
        self.cut = not port

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        x = super().forward(input, output_size)
        return x[..., : input.shape[2] * self.stride[0]] if self.cut else x


class _Repeated(torch.nn.Conv1d):
    """Repeats each sample, then convolves. The port repeats four times in every layer, and its last may step by two."""

    more = 0

    def __init__(self, n: int, m: int, stride: int, arrangement: str):
        self.times = 4 if arrangement == "port" else stride
        super().__init__(n, m, KERNEL, self.times // stride, padding=KERNEL // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.repeat_interleave(self.times, dim=2))


class _Down(torch.nn.Conv1d):
    """A convolution that divides the number of samples by its stride."""

    def __init__(self, n: int, m: int, stride: int, arrangement: str):
        super().__init__(n, m, KERNEL, stride)
        total = KERNEL - stride
        self.pad = [11, 11] if arrangement == "port" else [total // 2, total - total // 2]

    def length_of(self, samples: int) -> int:
        """The number of samples behind it."""
        return (samples + sum(self.pad) - KERNEL) // self.stride[0] + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.nn.functional.pad(x, self.pad))


def _draw_weights(network: torch.nn.Module) -> None:
    """Random weights as TensorFlow's layers draw them (Glorot's uniform distribution), and biases of zero."""
    for module in network.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
            torch.nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)


def _check_words(**values: tuple[object, tuple[str, ...]]) -> None:
    for name, (value, words) in values.items():
        if value not in words:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(words)}")


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; expected an integer from {low} to {high}")
