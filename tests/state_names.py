"""Names of the entries of a state dict, for tests that write down a network's own."""


def norm(name: str) -> list[str]:
    """Return the entries of a batch norm."""
    return [
        f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]


def under(prefix: str, names: list[str]) -> list[str]:
    """Return names with what stands before them."""
    return [f"{prefix}.{name}" for name in names]
