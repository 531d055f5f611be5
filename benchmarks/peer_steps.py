"""What does a training step of CNN-T cost beside the same network in its authors' and in diffusers' code?

    python benchmarks/peer_steps.py OUTPUT.json vavae=FILE [side=128] [batch=1] [rounds=7]

`FILE` is `tokenizer/autoencoder.py` of hustvl/LightningDiT (VA-VAE's network); diffusers is imported where it is
installed. All three have the f16d32 layout of VA-VAE (widths 128 to 512, two blocks per stage); `AutoencoderKL` of
diffusers has no attention in its deepest stage, only in the middle: its parameters stand beside. One step: forward with
a sampled latent, mean L1 + 1e-8 KL, backward, AdamW; float32, one thread, CPU seconds of that thread. Rounds are
interleaved, medians compared. Ours stands there in both memory orders of the weights and is compared as the peers are:
without `recipe.channels_last`. Wanted: at most 1.0 x each peer, target 0.85. Exit code 1 where that is missed.
"""

import importlib.util
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from micro import interleaved, numbers, write
from torch import Tensor, nn

from transvae import create_model
from transvae.torchvision_cpu import ensure_torchvision

LAYOUT = {"ch_mult": (1, 1, 2, 2, 4), "embed_dim": 32}
BETAS = (0.5, 0.9)


def main() -> None:
    file = next(Path(argument.partition("=")[2]) for argument in sys.argv[2:] if argument.startswith("vavae="))
    sys.argv = [argument for argument in sys.argv if not argument.startswith("vavae=")]
    options = numbers(side=128, batch=1, rounds=7)
    torch.set_num_threads(1)
    ensure_torchvision()
    nets = {"ours": ours(), "ours, channels_last": ours(torch.channels_last), "vavae": vavae(file)} | diffusers()
    x = torch.rand(options["batch"], 3, options["side"], options["side"]) * 2 - 1
    steps = {name: step_of(*net, x) for name, net in nets.items()}
    seconds = interleaved(steps, options["rounds"])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians["ours"] / median for name, median in medians.items() if not name.startswith("ours")}
    parameters = {name: sum(p.numel() for p in net.parameters()) for name, (net, _) in nets.items()}
    write("torch", **options, parameters=parameters, cpu_s_per_step=medians, rounds_s=seconds, ours_against=ratios)
    sys.exit(max(ratios.values()) > 1.0)


def ours(
    order: torch.memory_format = torch.contiguous_format,
) -> tuple[nn.Module, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
    """As the platform trains it, the weights in either memory order (`recipe.channels_last`)."""
    model = create_model("cnn-T/f16d32").to(memory_format=order)
    return model, model


def vavae(file: Path) -> tuple[nn.Module, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
    """VA-VAE's own code."""
    spec = importlib.util.spec_from_file_location("vavae_autoencoder", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _with_posterior(module.AutoencoderKL(**LAYOUT))


def diffusers() -> dict[str, tuple[nn.Module, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]]:
    """The nearest network of diffusers, nothing if it is not installed."""
    if importlib.util.find_spec("diffusers") is None:
        return {}
    from diffusers import AutoencoderKL

    widths = tuple(128 * factor for factor in LAYOUT["ch_mult"])
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 5, up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=widths, layers_per_block=2, latent_channels=LAYOUT["embed_dim"],
    )  # fmt: skip

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = model.encode(x).latent_dist
        return model.decode(posterior.sample()).sample, posterior.mean, posterior.logvar

    return {"diffusers": (model, run)}


def _with_posterior(model: nn.Module) -> tuple[nn.Module, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = model.encode(x)
        return model.decode(posterior.sample()), posterior.mean, posterior.logvar

    return model, run


def step_of(model: nn.Module, run: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=BETAS, weight_decay=0.0, fused=True)

    def step() -> None:
        y, mean, logvar = run(x)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / len(x)
        ((y - x).abs().mean() + 1e-8 * kl).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
