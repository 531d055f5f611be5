"""Requests that print the published numbers of four public sets of scaling runs from their own tables.

The tables are not part of this project (two have no licence); docs/fits.md says where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from transvae_platform.fitting.answers.request import Request
from transvae_platform.fitting.laws.forms import ENVELOPE, FRONTIER, ISOFLOP


@dataclass(frozen=True)
class Published:
    """file: the table's name; source: whose numbers; prints: which of them, as they were published."""

    file: str
    source: str
    prints: str
    request: Request


_GADRE_SMALL = "('d=96_l=8_h=4.json', 'd=512_l=8_h=4.json', 'd=576_l=24_h=8.json', 'd=1024_l=24_h=8.json')"
# Canonical numbers of samples seen behind the labels of the OpenCLIP figures.
_SEEN = (
    "where(samples_seen_pretty == '3B', 80000415 * 32, where(samples_seen_pretty == '13B', 407332084 * 32, "
    "where(samples_seen_pretty == '34B', 407332084 * 84, 407332084 * 168)))"
)
_CLIP = Request(
    ENVELOPE, {"x": "gmacs_total"}, "1 - acc1",
    "downstream_dataset == 'imagenet1k' and upstream_dataset != 'CLIP-WIT' and "
    "arch in ('ViT-B-32', 'ViT-B-16', 'ViT-L-14', 'ViT-H-14', 'ViT-g-14', 'ViT-G-14')",
    bins=5, predict_columns={"x": f"gmacs * {_SEEN}"}, best_of=("arch", "samples_seen_pretty"),
)  # fmt: skip

PUBLISHED = {
    "chinchilla": Published(
        "svg_extracted_data.csv", "epoch-research/analyzing-chinchilla (Besiroglu et al., arXiv 2404.10102)",
        "SE 124.52, 1293.28, 0.02566, 0.0154, 0.0206; CI95 of alpha 0.317-0.373, of beta 0.331-0.415; their A, B, "
        "alpha, beta (482.01, 2085.43, 0.3478, 0.3658) are the least-absolute-deviation optimum, their E (1.8172) is "
        "Huber's",
        Request(
            "L(N,D)", {"N": "Model Size", "D": "`Training FLOP` / (6 * N)"}, "loss", "loss < 3.446995430",
            delta=1e-3, least_absolute=True, seed=42, level=0.95,
        ),
    ),
    "gadre": Published(
        "gadre_models.csv", "mlfoundations/scaling (Gadre et al., arXiv 2403.08540)",
        "for rpj 0.7103 % on open_lm_1b at M = 640, 0.7320 % on open_lm_7b at M = 20",
        Request(
            "gadre", {"N": "params", "M": "20 * multiplier"}, "loss_c4_val",
            f"model in ('open_lm_1b', 'open_lm_7b') or (multiplier == 1 and model in {_GADRE_SMALL}) or "
            "(multiplier == 16 and model == 'd=96_l=8_h=4.json')",
            group=("dataset",), delta=float("inf"), residuals="linear",
            predict="model in ('open_lm_1b', 'open_lm_7b')", as_published=True,
        ),
    ),
    "porian": Published(
        "optimal_pairs.csv", "formll/resolving-scaling-law-discrepancies (Porian et al., arXiv 2406.19146)",
        "exponents 0.833768, 0.700899, 0.603528, 0.571425, 0.497029",
        Request(FRONTIER, {"C": "flops"}, "n", group=("hparams", "warmup", "decay", "param_count")),
    ),
    "porian-isoflop": Published(
        "isoflop_points.csv", "formll/resolving-scaling-law-discrepancies (Porian et al., arXiv 2406.19146)",
        "the same exponents from another smoothing of the same points, so near them and not equal",
        Request(ISOFLOP, {"C": "flops", "N": "n"}, "loss", group=("config",)),
    ),
    "openclip-imagenet": Published(
        "zeroshot_results.csv", "LAION-AI/scaling-laws-openclip (Cherti et al., arXiv 2212.07143)",
        "mean absolute error 0.008743712188927529 (0.874 points of top-1)", _CLIP,
    ),
    "openclip-coco": Published(
        "zeroshot_results.csv", "LAION-AI/scaling-laws-openclip (Cherti et al., arXiv 2212.07143)",
        "mean absolute error 0.005884335758552488 (0.588 points of recall@5)",
        replace(
            _CLIP, loss="1 - `image_retrieval_recall@5`",
            where=(_CLIP.where or "").replace("imagenet1k", "mscoco_captions"),
        ),
    ),
}  # fmt: skip
