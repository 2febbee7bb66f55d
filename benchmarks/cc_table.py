"""docs/results/cc-table.md: the MNIST column of the CC-Loss paper's table, and the other losses to compare with.

    python benchmarks/cc_table.py --data ../shared/data --jobs 2
    python benchmarks/cc_table.py --data ../shared/data --full --device cuda --jobs 1 --out FOLDER

Without ``--full`` the shipped recipes (papers/channel-correlation/*-mnist-r18) are sized for a CPU: kdcam:resnet8_s2 in
ResNet18's place, 6,000 or 1,000 training images of 28 pixels, few epochs with the recipe's steps at the same fractions,
and a validation part on which constants and epoch are chosen (see grid_runs.py). With ``--full`` the recipes run
as shipped, VGG16 and ResNet18, without any choice. ``--data`` holds mnist/.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from cc_report import write_report
from grid_runs import SEARCH_SEED, SEEDS, Row, Setting, Table, grid, measure, mnist_subset, processes

from kdcam.recipe.recipe_files import read_toml

FOLDER = "papers/channel-correlation"
NETWORK = "kdcam:resnet8_s2"


class Problem(NamedTuple):
    """A cut-down MNIST."""

    name: str
    images: int  # for training; a third of them on top for validation
    epochs: int
    noise: float = 0.0  # share of wrong training labels


SIX = Problem("MNIST, 6,000 images", 6000, 8)
ONE = Problem("MNIST, 1,000 images", 1000, 30)
NOISY = Problem("MNIST, 6,000 images, 40 % wrong labels", 6000, 8, 0.4)

# The paper's rows: recipe, and the constants under search, by the loss's name in the recipe.
PAPER: dict[str, tuple[str, tuple[Setting, ...]]] = {
    "cross_entropy": ("ce", ((),)),
    "focal": ("focal", grid("focal", gamma=(0.5, 1.0, 2.0, 3.0))),
    "asoftmax": (
        "asoftmax",
        grid("asoftmax", anneal_gamma=(0.12, 1.2, 1.2, 1.2), anneal_floor=(5.0, 5.0, 2.0, 10.0)),
    ),
    "mutual_channel": (
        "mutual",
        grid("mutual_channel", weight=(0.15, 0.5, 0.5, 1.5), diversity_weight=(10.0, 0.0, 10.0, 10.0)),
    ),
    "ical": ("ical", grid("ical", weight=(1.0, 5.0, 10.0, 30.0))),
    "fical": ("fical", grid("fical", weight=(0.3, 1.0, 3.0, 10.0))),
    "attention block alone": ("se", ((),)),
    "channel_correlation": (
        "cc",
        grid("channel_correlation", weight=(0.03, 0.1, 0.3, 0.1), form=("ratio", "ratio", "ratio", "margin")),
    ),
}

# Losses that stand in the place of cross-entropy, with the head that they need.
ALONE: dict[str, tuple[str, tuple[Setting, ...]]] = {
    "normface": ("cosine", grid("normface", scale=(10.0, 20.0, 30.0))),
    "cosface": ("cosine", grid("cosface", margin=(0.2, 0.35, 0.2, 0.35), scale=(10.0, 10.0, 30.0, 30.0))),
    "arcface": ("cosine", grid("arcface", margin=(0.2, 0.5, 0.2, 0.5), scale=(10.0, 10.0, 30.0, 30.0))),
    "lsoftmax": ("linear", grid("lsoftmax", margin=(2, 4, 2, 4), anneal_gamma=(2e-4, 2e-4, 1e-3, 1e-3))),
    "lgm": ("gaussian", grid("lgm", margin=(0.1, 0.3, 0.1, 0.3), likelihood_weight=(0.01, 0.01, 0.1, 0.1))),
    "anchor": ("linear", grid("anchor", gamma=(0.5, 1.0, 2.0))),
    "gradient_boosting_cross_entropy": (
        "linear",
        grid("gradient_boosting_cross_entropy", negatives=(2, 3, 5)),
    ),
    "generalized_cross_entropy": ("linear", grid("generalized_cross_entropy", exponent=(0.3, 0.5, 0.7))),
    "guided_complement_entropy": ("linear", grid("guided_complement_entropy", alpha=(0.2, 1 / 3, 0.5))),
}
ADDED: dict[str, tuple[Setting, ...]] = {
    "center": grid("center", weight=(0.003, 0.03, 0.1)),
    "max_entropy": grid("max_entropy", weight=(0.1, 0.3, 1.0)),
}
AGAINST_NOISE: dict[str, tuple[str, tuple[Setting, ...]]] = {
    "focal": ("linear", grid("focal", gamma=(0.5, 1.0, 2.0))),
    "generalized_cross_entropy": ("linear", grid("generalized_cross_entropy", exponent=(0.3, 0.5, 0.7))),
    "truncated_generalized_cross_entropy": (
        "linear",
        grid("truncated_generalized_cross_entropy", exponent=(0.7, 0.7, 0.3), threshold=(0.5, 0.3, 0.3)),
    ),
    "guided_complement_entropy": ("linear", grid("guided_complement_entropy", alpha=(0.2, 1 / 3, 0.5))),
    "anchor": ("linear", grid("anchor", gamma=(0.5, 1.0))),
}


def sized(table: Table, problem: Problem, root: Path) -> Table:
    """Return a shipped recipe sized for a CPU; what it says of losses, head, block and optimiser stays."""
    model = {key: table["model"][key] for key in ("head", "channel_attention") if key in table["model"]}
    noise = {"noise": {"kind": "symmetric", "rate": problem.noise}} if problem.noise else {}
    return {
        "epochs": problem.epochs,
        "batch_size": 64,
        "data": {"name": "mnist", "root": str(root), "validation": 0.25, **noise},
        "model": {"name": NETWORK, **model},
        "loss": table["loss"],
        "optimizer": table["optimizer"],
        "schedule": {
            "name": "multistep",
            "milestones": [problem.epochs / 2, 0.75 * problem.epochs],
            "warmup_epochs": 1,
        },
    }


def with_setting(table: Table, setting: Setting) -> Table:
    """Return a recipe whose losses have the constants of a setting; a scale is the head's."""
    kept = {key: value for term in setting for key, value in term.items() if key == "scale"}
    terms = {term["name"]: {key: value for key, value in term.items() if key != "scale"} for term in setting}
    losses = [{**loss, **terms.get(loss["name"], {})} for loss in table["loss"]]
    return table | {"loss": losses, "model": table["model"] | kept}


def paper_rows(problem: Problem, root: Path) -> list[Row]:
    """Return the rows of the CC-Loss paper's table."""

    def row(name: str, kind: str, settings: tuple[Setting, ...]) -> Row:
        table = sized(read_toml(f"{FOLDER}/{kind}-mnist-r18"), problem, root)
        return Row(name, settings, lambda setting: with_setting(table, setting))

    return [row(name, kind, settings) for name, (kind, settings) in PAPER.items()]


def other_rows(problem: Problem, root: Path, alone: dict[str, tuple[str, tuple[Setting, ...]]]) -> list[Row]:
    """Return rows of losses in the place of cross-entropy."""
    plain = sized(read_toml(f"{FOLDER}/ce-mnist-r18"), problem, root)

    def row(name: str, head: str, settings: tuple[Setting, ...]) -> Row:
        table = plain | {"model": {"name": NETWORK, "head": head}, "loss": [{"name": name}]}
        return Row(name, settings, lambda setting: with_setting(table, setting))

    return [
        Row("cross_entropy", ((),), lambda _: plain),
        *(row(name, *found) for name, found in alone.items()),
    ]


def added_rows(problem: Problem, root: Path) -> list[Row]:
    """Return rows of losses beside cross-entropy."""
    plain = sized(read_toml(f"{FOLDER}/ce-mnist-r18"), problem, root)

    def row(name: str, settings: tuple[Setting, ...]) -> Row:
        table = plain | {"loss": [*plain["loss"], {"name": name}]}
        return Row(name, settings, lambda setting: with_setting(table, setting))

    return [row(name, settings) for name, settings in ADDED.items()]


def full_rows(network: str, root: Path) -> list[Row]:
    """Return the shipped recipes as they are, on a folder of the whole MNIST."""

    def row(name: str, kind: str) -> Row:
        table = read_toml(f"{FOLDER}/{kind}-mnist-{network}")
        table["data"]["root"] = str(root)
        return Row(name, ((),), lambda _: table)

    return [row(name, kind) for name, (kind, _) in PAPER.items()]


def published(network: str) -> dict[str, float]:
    """Return the paper's numbers by row, of its ResNet18 ("r18") or VGG16 ("vgg")."""
    tables = {name: read_toml(f"{FOLDER}/{kind}-mnist-{network}") for name, (kind, _) in PAPER.items()}
    return {name: table["published"]["accuracy"] for name, table in tables.items() if "published" in table}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/")
    parser.add_argument("--full", action="store_true", help="the recipes as shipped; hours on a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/cc-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    arguments = parser.parse_args()
    data, runs = arguments.data / "mnist", arguments.runs.resolve()
    todo: dict[str, tuple[list[Row], dict[str, float]]] = {}
    if arguments.full:
        root = mnist_subset(data, runs / "mnist", images=60000)
        todo = {
            f"MNIST, {words}": (full_rows(network, root), published(network))
            for network, words in (("r18", "ResNet18"), ("vgg", "VGG16"))
        }
    else:
        roots = {
            problem: mnist_subset(
                data, runs / f"mnist-{problem.images}", images=problem.images + problem.images // 3
            )
            for problem in (SIX, ONE, NOISY)
        }
        others = other_rows(SIX, roots[SIX], ALONE) + added_rows(SIX, roots[SIX])
        todo = {
            SIX.name: (paper_rows(SIX, roots[SIX]), published("r18")),
            ONE.name: (paper_rows(ONE, roots[ONE]), published("r18")),
            f"{SIX.name}, the other losses": (others, {}),
            NOISY.name: (other_rows(NOISY, roots[NOISY], AGAINST_NOISE), {}),
        }
    found = {}
    with processes(arguments.jobs) as pool:
        for title, (rows, numbers) in todo.items():
            place = runs / arguments.device
            found[title] = {
                "rows": measure(title, rows, place, pool, device=arguments.device),
                "published": numbers,
            }
    write_report(found, arguments.out, seeds=SEEDS, search_seed=SEARCH_SEED, full=arguments.full)


if __name__ == "__main__":
    main()
