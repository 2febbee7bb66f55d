"""kdcam's networks in timm's registry: ``timm.create_model("kdcam_resnet20")`` works beside kdcam.models.

timm itself is not imported for that, since a kdcam network needs none of it: where it is not loaded yet, a
finder waits for its import, removes itself, and the networks are registered right after it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from torch import nn

from kdcam.models.networks import CIFAR_NETWORKS

TIMM_PREFIX = "kdcam_"


# Why timm is waited for and not imported: docs/decisions/002.
def offer_to_timm() -> None:
    """Register kdcam's networks with timm now if it is loaded, else as soon as it is."""
    if "timm.models" in sys.modules:
        register_with_timm()
    elif not any(isinstance(finder, _TimmFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TimmFinder())


def register_with_timm() -> None:
    """Register each network as ``kdcam_<name>``; a name that timm has already stays what it is."""
    from timm import models  # here: it takes seconds

    listed = list(__all__)
    for name in CIFAR_NETWORKS:
        if not models.is_model(TIMM_PREFIX + name):
            models.register_model(_entry_point(name))
    __all__[:] = listed  # timm appends each name, and they are no names of this module


def _entry_point(name: str) -> Any:
    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        from timm.models import build_model_with_cfg  # here: it takes seconds

        network: nn.Module = build_model_with_cfg(
            CIFAR_NETWORKS[name].build, TIMM_PREFIX + name, pretrained, **options
        )
        return network

    build.__name__ = build.__qualname__ = TIMM_PREFIX + name
    return build


def _default_cfgs() -> dict[str, dict[str, Any]]:
    """Return what timm wants to know of each network: size and statistics of its input, names of its ends."""
    one: dict[str, Any] = {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    return {
        TIMM_PREFIX + name: one | {"first_conv": network.first_conv, "classifier": network.classifier}
        for name, network in CIFAR_NETWORKS.items()
    }


default_cfgs = _default_cfgs()
"""timm looks for this name in the module of an entry point."""


class _TimmFinder(MetaPathFinder):
    """Finds timm as the other finders do, with a loader that registers kdcam's networks after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm":
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader, self)
        return spec


class _RegisteringLoader(Loader):
    """Loads timm with its own loader, hands the module back to that one, and registers kdcam's networks."""

    def __init__(self, own: Loader, finder: _TimmFinder) -> None:
        self._own = own
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._own
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        self._own.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        register_with_timm()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


__all__ = ["TIMM_PREFIX", "default_cfgs", "offer_to_timm", "register_with_timm"]
