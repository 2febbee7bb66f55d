"""How fast the attacks are: kdcam beside torchattacks and foolbox, in one run, on one network and the same images.

    python benchmarks/attack_speed.py --out docs/results/attack-speed.json

The network (kdcam:resnet8_s2 on scikit-learn's digits at 32 pixels) is trained for a short while on adversarial images,
so that some images fall and some stand: attacks that let fallen images drop out are paid for that. All use the
same clean images, all right at the start, and the same settings. Runs are interleaved in random order, so that a change
of the machine's speed meets all alike; medians and a 95 % bootstrap interval of each ratio to kdcam are printed.
Needs torchattacks and foolbox. Run it on an idle machine.

kdcam stands here twice: with stop_when_fooled, as `kdcam evaluate-robustness` runs it, and as in the papers, all
steps for every image. torchattacks' PGD has no restarts: it is run five times, and, a second entry, by its
MultiAttack (later runs only on images that still stand); foolbox's restarts are its repeat().
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from interleaved import facts, rows
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from kdcam.attacks import CountedClassifier, fgsm, pgd
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig

EPS = 0.2  # about half of the images fall
KDCAM = "kdcam"
Job = Callable[[], Tensor]


class Setting(NamedTuple):
    """One attack."""

    name: str
    steps: int  # 1: fgsm
    restarts: int
    rounds: int


SETTINGS = (Setting("fgsm", 1, 1, 60), Setting("pgd-10", 10, 1, 20), Setting("pgd-50x5", 50, 5, 5))


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    small = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    return interpolate(small, size=32, mode="bilinear").clamp(0, 1), torch.tensor(labels)


def partly_robust(images: Tensor, labels: Tensor, *, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    network = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=32
    )
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for epoch in range(epochs):
        eps = EPS * 0.75 * min(1.0, (epoch + 1) / 3)
        for chosen in torch.randperm(len(images)).split(64):
            found = pgd(
                network,
                images[chosen],
                labels[chosen],
                eps=eps,
                alpha=eps / 2,
                steps=3,
                seed=epoch,
                indices=chosen,
            )
            network.train()
            optimizer.zero_grad()
            cross_entropy(network(found), labels[chosen]).backward()
            optimizer.step()
    return network.eval()


def jobs(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> dict[str, Job]:
    import foolbox
    import torchattacks

    alpha = EPS / 4
    peer = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    wrong = foolbox.criteria.Misclassification(labels)
    if setting.steps == 1:
        return {
            KDCAM: partial(fgsm, network, images, labels, eps=EPS),
            "torchattacks": partial(torchattacks.FGSM(network, eps=EPS), images, labels),
            "foolbox": partial(foolbox.attacks.FGSM().run, peer, images, wrong, epsilon=EPS),
        }
    settings = {"eps": EPS, "alpha": alpha, "steps": setting.steps, "restarts": setting.restarts}
    theirs = [
        torchattacks.PGD(network, eps=EPS, alpha=alpha, steps=setting.steps) for _ in range(setting.restarts)
    ]
    multi = (
        {"torchattacks, MultiAttack": partial(torchattacks.MultiAttack(theirs), images, labels)}
        if setting.restarts > 1
        else {}
    )
    once: Any = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=setting.steps)
    repeated: Any = once.repeat(setting.restarts)
    ours = partial(pgd, network, images, labels, **settings)
    return {
        KDCAM: partial(ours, stop_when_fooled=True),
        "kdcam, all steps": ours,
        "torchattacks": partial(_each_in_turn, theirs, network, images, labels),
        **multi,
        # run() makes the steps alone; a call looks at the result once more, and a repeated attack can only be called,
        # with a list of budgets.
        "foolbox": partial(once.run, peer, images, wrong, epsilon=EPS)
        if setting.restarts == 1
        else lambda: _first(repeated(peer, images, wrong, epsilons=[EPS])[1]),
    }


def _each_in_turn(attacks: list[Any], network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    best = attacks[0](images, labels)
    for attack in attacks[1:]:
        found = attack(images, labels)
        with torch.no_grad():
            fell = network(found).argmax(1) != labels
        best[fell] = found[fell]
    return best


def _first(found: list[Tensor]) -> Tensor:
    return found[0]


def measure(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> dict[str, Any]:
    todo = jobs(network, images, labels, setting)
    fooled = {name: _share_fooled(network, job(), labels) for name, job in todo.items()}  # the warm-up, too
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    order = np.random.default_rng(0)
    for _ in range(setting.rounds):
        for name in order.permutation(list(todo)):
            start = time.perf_counter()
            todo[name]()
            seconds[name].append(time.perf_counter() - start)
    found = rows({name: np.array(values) for name, values in seconds.items()}, KDCAM)
    for name, row in found.items():
        row["share_fooled"] = round(fooled[name], 4)
    return {
        "attack": setting.name,
        "rounds": setting.rounds,
        "jobs": found,
        "passes": _passes(network, images, labels, setting),
    }


def _share_fooled(network: nn.Module, found: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((network(found).argmax(1) != labels).float().mean())


def _passes(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Mapping[str, float]:
    counted = CountedClassifier(network)
    jobs(counted, images, labels, setting)[KDCAM]()
    return {
        "forwards_an_image": round(counted.forwards / len(images), 2),
        "backwards_an_image": round(counted.backwards / len(images), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--trial", action="store_true", help="2 rounds of each, to see that it works")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    images, labels = digits()
    network = partly_robust(images[:1400], labels[:1400], epochs=arguments.epochs)
    with torch.no_grad():
        right = (network(images[1400:]).argmax(1) == labels[1400:]).nonzero().flatten()[: arguments.images]
    images, labels = images[1400:][right], labels[1400:][right]
    settings = [setting._replace(rounds=2) if arguments.trial else setting for setting in SETTINGS]
    found = {
        "network": "kdcam:resnet8_s2, trained on adversarial images",
        "images": f"{len(images)} scikit-learn digits at 32 pixels in one batch, all right at the start",
        "budget": {"norm": "linf", "eps": EPS, "alpha": EPS / 4},
        "attacks": [measure(network, images, labels, setting) for setting in settings],
        "command": "python benchmarks/attack_speed.py",
        **facts(),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
