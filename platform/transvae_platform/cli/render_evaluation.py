"""What the terminal shows of evaluations."""

from __future__ import annotations

from transvae_platform.cli.tables import console
from transvae_platform.cli.text import harmless
from transvae_platform.evaluation.latent_space.records import LatentRecord
from transvae_platform.evaluation.records import Record, kind_of, shown

DIGITS = {"psnr": 2, "ssim": 4, "lpips": 4, "rfid": 3}
UNITS = {"psnr": " dB"}
MEASURES = ("density_cv", "normalised_entropy", "gini")


def print_record(record: Record) -> None:
    """One evaluation: what was measured on what, n beside the numbers, then the warnings."""
    data, px = record.data, record.data["resolution"]
    on = f"{data['name']} ({data['split']}, {px} x {px}), protocol {record.protocol['name']}"
    _print(f"{record.model['name']} on {on}")
    numbers = [_number(name, value) for name, value in record.metrics.items()]
    if record.identical:
        numbers.append(f"{record.identical} without any error")
    _print(f"  n = {record.n:,}: {', '.join(numbers)}")
    for warning in record.warnings:
        _print(f"  warning: {warning}")


def _number(name: str, value: float | None) -> str:
    kind = kind_of(name)
    return f"{name} {shown(value, DIGITS[kind])}{UNITS.get(kind, '')}"


def print_density(record: LatentRecord) -> None:
    """The measures with the spread of their runs and the floors of points without structure."""
    result = record.result
    _print(f"{record.latents['name']}: n = {result['n']:,}, {result['runs']} runs")
    for measure in MEASURES:
        floors = ", ".join(f"{name} {values[measure]:.4f}" for name, values in result["floors"].items())
        value, spread = result["mean"][measure], result["spread"][measure]
        _print(f"  {measure.replace('_', ' ')} {value:.4f} ± {spread:.4f} (without structure: {floors})")


def print_manifold(record: LatentRecord) -> None:
    """Directions, and where held-out latents lie beside those of the training images, by added noise."""
    result = record.result
    _print(f"{record.latents['name']}: {result['n']:,} held-out vectors beside {result['references']:,}")
    _print(
        f"  of {result['channels']} directions: effective rank {result['effective_rank']:.1f}, participation "
        f"{result['participation']:.1f}, {result['directions']} hold {result['settings']['share']:.0%} of the variance"
    )
    for level, ratio in result["ratio"].items():
        _print(f"  noise {level}: distance ratio {ratio:.3f}, inside {result['inside'][level]:.1%}")


def print_probe(record: LatentRecord) -> None:
    """Accuracy, and what it depends on."""
    result = record.result
    images, protocol = result["images"], result["protocol"]
    _print(
        f"{record.latents['name']}: {100 * result['accuracy']:.2f} % of {images['validation']:,} validation images, "
        f"{result['classes']} classes, {images['train']:,} training images"
    )
    ended = ""
    if result.get("converged") is not None:  # not of SGD, nor in records of earlier releases
        how = "converged" if result["converged"] else "not converged"
        ended = f", {how} after {result['steps']:,} iterations (largest gradient {result['gradient']:.1e})"
    _print(f"  features {protocol['features']}, solver {protocol['solver']}, C {result['chosen_c']:g}{ended}")


def _print(line: str) -> None:
    console().print(harmless(line), markup=False, highlight=False, soft_wrap=True)
