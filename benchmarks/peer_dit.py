"""What does a training step of LightningDiT cost beside the authors' own code, and do both answer the same?

    python benchmarks/peer_dit.py OUTPUT.json lightningdit=FOLDER [batch=1] [rounds=5]

`FOLDER` is a checkout of hustvl/LightningDiT, whose network is run as it stands, but for `torch.compile` (off for both)
and `fairscale`, which it imports and does not use here; it needs `einops`. B/2 on latents 16 x 32 x 32, ours with the
peer's weights: first the largest difference of the answers. One step: interpolation, forward, loss, backward, AdamW;
float32, one thread, CPU seconds of that thread; rounds interleaved, medians compared. Beside them the floor of both:
the products of the step with its weights, three per linear layer, and AdamW, nothing else. Wanted: at most 0.9 x the
peer's. Ends with exit code 1 where that is missed, or where the answers differ by more than 1e-4.
"""

import os
import statistics
import sys
import types
from collections.abc import Callable
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
from micro import interleaved, numbers, write
from torch import Tensor, nn

from transvae.generation import LightningDiT, create_dit
from transvae.generation.transport import interpolate, logit_normal_times, velocity_loss
from transvae.torchvision_cpu import ensure_torchvision

DIM, SIZE = 16, 32
NAMES = {  # ours -> the peer's
    "patches": "x_embedder.proj", "time.0": "t_embedder.mlp.0", "time.2": "t_embedder.mlp.2",
    "labels": "y_embedder.embedding_table", "norm": "final_layer.norm_final", "out": "final_layer.linear",
    "modulation": "final_layer.adaLN_modulation.1",
}  # fmt: skip
BLOCK = {
    "norm1": "norm1", "norm2": "norm2", "qkv": "attn.qkv", "merge": "attn.proj", "inward": "mlp.w12",
    "outward": "mlp.w3", "modulation": "adaLN_modulation.1",
}  # fmt: skip


def main() -> None:
    folder = next(Path(argument.partition("=")[2]) for argument in sys.argv[2:] if argument.startswith("lightningdit="))
    sys.argv = [argument for argument in sys.argv if not argument.startswith("lightningdit=")]
    options = numbers(batch=1, rounds=5)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    peer, ours = load_peer(folder), create_dit("lightning_dit-B/2", DIM, SIZE)
    with torch.no_grad():
        for parameter in peer.parameters():  # zero-initialised layers would hide every difference
            if not parameter.any():
                parameter.normal_(std=0.02)
    copy_weights(peer, ours)
    batch = options["batch"]
    data, noise, y = torch.randn(batch, DIM, SIZE, SIZE), torch.randn(batch, DIM, SIZE, SIZE), torch.arange(batch)
    t = logit_normal_times(torch.randn(batch))
    with torch.no_grad():
        difference = float((peer.eval()(data, t, y) - ours(data, t, y)).abs().max())
    nets = {"ours": ours, "peer": peer.train()}
    steps = {name: step_of(net, data, noise, t, y) for name, net in nets.items()}
    steps["floor"] = floor_of(ours, batch)
    seconds = interleaved(steps, options["rounds"])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["ours"] / medians["peer"]
    parameters = {name: sum(p.numel() for p in net.parameters() if p.requires_grad) for name, net in nets.items()}
    write("torch", "timm", **options, parameters=parameters, largest_difference=difference, cpu_s_per_step=medians,
          rounds_s=seconds, ours_against_peer=ratio, ours_against_floor=medians["ours"] / medians["floor"],
          floor_against_peer=medians["floor"] / medians["peer"])  # fmt: skip
    sys.exit(ratio > 0.9 or difference > 1e-4)


def load_peer(folder: Path) -> nn.Module:
    """B/2 of the authors, as their configuration sets it."""
    ensure_torchvision()
    parent = "fairscale.nn.model_parallel"
    for name in ("fairscale", "fairscale.nn", parent, f"{parent}.initialize", f"{parent}.layers"):
        sys.modules[name] = types.ModuleType(name)
    for name in ("ColumnParallelLinear", "ParallelEmbedding", "RowParallelLinear"):
        setattr(sys.modules[f"{parent}.layers"], name, None)
    sys.path.insert(0, str(folder))
    from models.lightningdit import LightningDiT_models

    switches = {"use_swiglu": True, "use_rope": True, "use_rmsnorm": True, "use_qknorm": False}
    return LightningDiT_models["LightningDiT-B/2"](input_size=SIZE, in_channels=DIM, **switches)


def copy_weights(peer: nn.Module, ours: LightningDiT) -> None:
    """Give ours the peer's weights."""
    state, renamed = peer.state_dict(), {}
    for key in ours.state_dict():
        module, _, kind = key.rpartition(".")
        if module.startswith("blocks."):
            _, number, part = module.split(".", 2)
            renamed[key] = state[f"blocks.{number}.{BLOCK[part]}.{kind}"]
        else:
            renamed[key] = state[f"{NAMES[module]}.{kind}"]
    ours.load_state_dict(renamed)


def step_of(model: nn.Module, data: Tensor, noise: Tensor, t: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=2e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )

    def step() -> None:
        at, velocity = interpolate(data, noise, t)
        velocity_loss(model(at, t, y), velocity).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def floor_of(model: LightningDiT, batch: int) -> Callable[[], None]:
    """The products that both networks are made of, at one token per latent for what reads the condition."""
    tokens = batch * model.config.grid**2
    layers = [
        (module, torch.randn(batch if "modulation" in name or "time" in name else tokens, module.in_features))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    answers = [torch.randn(len(x), module.out_features) for module, x in layers]
    weights = [module.weight.detach().clone().requires_grad_() for module, _ in layers]
    optimizer = torch.optim.AdamW(weights, lr=2e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def step() -> None:
        with torch.no_grad():
            for weight, (_, x), gradient in zip(weights, layers, answers, strict=True):
                torch.mm(x, weight.T)
                torch.mm(gradient, weight)
                weight.grad = torch.mm(gradient.T, x)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
