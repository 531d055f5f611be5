"""`import torchvision` beside a CPU build of torch.

The torchvision wheels of the package index are built for CUDA. Beside a CPU torch their compiled library cannot be
loaded, and the import ends with "operator torchvision::nms does not exist", because torchvision registers shape rules
for two of its compiled operators. Declaring those two is enough: nothing of this project calls them. Where the wheels
match, nothing is declared (a namespace can be defined only once, so declaring blindly would break a sound torchvision).
"""

import importlib
import sys

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # kept alive: a collected Library takes its declarations with it


def ensure_torchvision() -> None:
    """Make torchvision importable; call it before importing torchvision or anything that does (timm, lpips, ...)."""
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)
        importlib.import_module("torchvision")
