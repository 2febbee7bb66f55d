"""How many classes the published weights of a network tell apart, without fetching them."""

from kdcam.models.catalogue import split_name


def published_classes(name: str) -> int | None:
    """Return the class count of a network's published weights; 0: no classifier; None: there are none.

    Raises ``ModelError`` where there is no such network.
    """
    source, bare = split_name(name)
    if source == "timm":
        return _classes_in_timm(bare)
    if source == "torchvision":
        from torchvision import models

        categories: list[str] = models.get_model_weights(bare).DEFAULT.meta["categories"]
        return len(categories)
    return None


def _classes_in_timm(name: str) -> int | None:
    import timm

    if not timm.is_model_pretrained(name):
        return None
    known = timm.get_pretrained_cfg(name)
    return None if known is None else int(known.num_classes)


__all__ = ["published_classes"]
