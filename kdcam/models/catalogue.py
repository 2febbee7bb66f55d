"""Which networks there are, under the names that a recipe gives them, and which of them have an exact CAM."""

from difflib import get_close_matches
from fnmatch import fnmatch
from typing import Literal, NamedTuple, NoReturn

from kdcam.errors import ModelError
from kdcam.models.networks import CIFAR_NETWORKS
from kdcam.models.networks.timm_registration import TIMM_PREFIX
from kdcam.models.torchvision_networks import MAP_NODES, NO_EXACT_CAM, torchvision_names

NetworkSource = Literal["kdcam", "timm", "torchvision"]


class ModelName(NamedTuple):
    """A network that a recipe can name."""

    name: str  # as in a recipe: "kdcam:resnet20", "resnet18", "torchvision:resnet18"
    source: NetworkSource


# timm's families (modules of timm.models) in timm 1.0.31: `check_cam` on the smallest network of each, and
# its comparison without shifted norms on all networks of up to 30 million parameters. Families whose networks
# differ (byobnet, maxxvit) are in neither.
TIMM_EXACT_CAM = frozenset(
    """
    convmixer cspnet cspnext densenet efficientnet fastvit focalnet gcvit hrnet inception_resnet_v2
    inception_v3 inception_v4 mobilevit nasnet nest nfnet pnasnet pvt_v2 regnet res2net resnest
    resnet rexnet selecsls senet sknet starnet swin_transformer_v2_cr tresnet visformer vovnet
    xception xception_aligned
    """.split()  # noqa: SIM905 (a list would take a line for each)
)
TIMM_NO_EXACT_CAM = frozenset(
    """
    beit cait coat convit convnext cpubone crossvit csatv2 davit deit dla dpn edgenext
    efficientformer efficientformer_v2 efficientvim efficientvit_mit efficientvit_msra eva fasternet
    ghostnet hardcorenas hgnet hiera hieradet_sam2 iformer inception_next lcnetv2 levit lowformer
    mambaout metaformer mlp_mixer mobilenetv3 mvitv2 naflexvit nextvit pit qwen3_vit rdnet repghost
    repvit resnetv2 sequencer shvit swiftformer swin_transformer swin_transformer_v2 tiny_vit tnt
    twins vgg vision_transformer vision_transformer_hybrid vision_transformer_relpos
    vision_transformer_sam vitamin volo xcit
    """.split()  # noqa: SIM905 (a list would take a line for each)
)
_EXCEPTIONS = {"convnext_tiny_hnf": True}  # normalises before the pooling


def list_models(pattern: str | None = None) -> list[ModelName]:
    """Return the networks whose name fits a pattern, kdcam's first; this imports timm and torchvision.

    Args:
        pattern: with ``*`` and ``?`` as in a shell; text without them may be any part of the name. None: all.
    """
    everything = [ModelName(f"kdcam:{name}", "kdcam") for name in CIFAR_NETWORKS]
    everything += [ModelName(name, "timm") for name in timm_names()]
    everything += [ModelName(f"torchvision:{name}", "torchvision") for name in torchvision_names()]
    if pattern is None:
        return everything
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    return [model for model in everything if fnmatch(model.name, wanted)]


def has_exact_cam(name: str) -> bool | None:
    """Return whether a network has an exact CAM, as known of its family; None: only `check_cam` can tell."""
    source, bare = split_name(name)
    if source == "kdcam":
        return True
    if source == "torchvision":
        if bare.startswith(NO_EXACT_CAM):
            return False
        return True if bare.startswith(tuple(MAP_NODES)) else None
    return _known_of_timm(bare.partition(".")[0])


def split_name(name: str) -> tuple[NetworkSource, str]:
    """Return where a network comes from and its name there; a name without a prefix is timm's.

    Raises ``ModelError`` with close spellings where there is no such network; timm and torchvision are
    imported only to look up names of theirs.
    """
    prefix, colon, bare = name.partition(":")
    if not colon:
        import timm  # here: it takes seconds

        if not timm.is_model(name.partition(".")[0]) or name.startswith(TIMM_PREFIX):
            _refuse(name)
        return "timm", name
    if prefix == "kdcam" and bare in CIFAR_NETWORKS:
        return "kdcam", bare
    if prefix == "torchvision" and bare in torchvision_names():
        return "torchvision", bare
    return _refuse(name)


def timm_names() -> list[str]:
    """Return the names of timm's own architectures, sorted."""
    import timm  # here: it takes seconds

    return [name for name in timm.list_models() if not name.startswith(TIMM_PREFIX)]


def _known_of_timm(architecture: str) -> bool | None:
    import timm  # here: it takes seconds

    if architecture in _EXCEPTIONS:
        return _EXCEPTIONS[architecture]
    family = timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
    if family in TIMM_NO_EXACT_CAM:
        return False
    return True if family in TIMM_EXACT_CAM else None


def _refuse(name: str) -> NoReturn:
    prefix, colon, _ = name.partition(":")
    if colon and prefix not in ("kdcam", "torchvision"):
        raise ModelError(
            f"model.name: {name!r} has the unknown prefix {prefix!r}; allowed are kdcam:NAME, "
            "torchvision:NAME and timm's names with no prefix; a local file or folder goes into model.weights"
        )
    if prefix == "kdcam" and colon:
        spellings = {f"kdcam:{known}": f"kdcam:{known}" for known in CIFAR_NETWORKS}
    else:
        models = [model for model in list_models() if not colon or model.source == prefix]
        # A bare name may be meant for a network that needs its prefix (resnet20 for kdcam:resnet20).
        spellings = {model.name.rpartition(":")[2]: model.name for model in models}
        spellings |= {model.name: model.name for model in models}
    close = [spellings[match] for match in get_close_matches(name, spellings, n=3, cutoff=0.6)]
    meant = f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else ";"
    raise ModelError(f"model.name: there is no network {name!r}{meant} `kdcam models list` prints all names")


__all__ = [
    "TIMM_EXACT_CAM",
    "TIMM_NO_EXACT_CAM",
    "ModelName",
    "NetworkSource",
    "has_exact_cam",
    "list_models",
    "split_name",
    "timm_names",
]
