"""The attacks beside those of foolbox, torchattacks and pyautoattack, and beside exact answers."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_attacks import ALPHA, EPS, Linear, fooled
from torch import Tensor, nn

from kdcam.attacks import apgd, apgd_targeted, bim, cw_margin, fgsm, mim, pgd, square


def foolbox_result(model: nn.Module, attack: Any, images: Tensor, targets: Tensor, eps: float) -> Tensor:
    import foolbox

    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    return attack.run(peer, images, foolbox.criteria.Misclassification(targets), epsilon=eps)


@pytest.fixture(scope="module")
def photos(resnet18: nn.Module) -> tuple[Tensor, Tensor]:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return images, resnet18(images).argmax(1)


@pytest.fixture(scope="module")
def peers() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox

        yield foolbox.attacks


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    import timm

    class WithNormalisation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = timm.create_model("resnet18", num_classes=10)

        def forward(self, images: Tensor) -> Tensor:
            return self.network((images - 0.45) / 0.25)

    torch.manual_seed(0)
    return WithNormalisation().eval()


def test_fgsm_equals_foolbox_bit_for_bit(
    resnet18: nn.Module, photos: tuple[Tensor, Tensor], peers: Any
) -> None:
    expected = foolbox_result(resnet18, peers.FGSM(random_start=False), *photos, EPS)
    assert torch.equal(fgsm(resnet18, *photos, eps=EPS), expected)


def test_pgd_equals_foolbox_bit_for_bit(
    resnet18: nn.Module, photos: tuple[Tensor, Tensor], peers: Any
) -> None:
    attack = peers.LinfPGD(abs_stepsize=ALPHA, steps=10, random_start=False)
    expected = foolbox_result(resnet18, attack, *photos, EPS)
    found = pgd(resnet18, *photos, eps=EPS, alpha=ALPHA, steps=10, random_start=False)
    assert torch.equal(found, expected)
    assert torch.equal(bim(resnet18, *photos, eps=EPS, alpha=ALPHA, steps=10), expected)


def test_l2_attacks_equal_foolbox(resnet18: nn.Module, photos: tuple[Tensor, Tensor], peers: Any) -> None:
    attack = peers.L2PGD(abs_stepsize=0.1, steps=5, random_start=False)
    expected = foolbox_result(resnet18, attack, *photos, 0.5)
    found = pgd(resnet18, *photos, eps=0.5, alpha=0.1, steps=5, norm="l2", random_start=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    single = foolbox_result(resnet18, peers.FGM(random_start=False), *photos, 0.5)
    torch.testing.assert_close(fgsm(resnet18, *photos, eps=0.5, norm="l2"), single, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def torchattacks() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("torchattacks")


def test_gradient_steps_equal_torchattacks_bit_for_bit(
    resnet18: nn.Module, photos: tuple[Tensor, Tensor], torchattacks: Any
) -> None:
    assert torch.equal(fgsm(resnet18, *photos, eps=EPS), torchattacks.FGSM(resnet18, eps=EPS)(*photos))
    peer = torchattacks.PGD(resnet18, eps=EPS, alpha=ALPHA, steps=10, random_start=False)
    expected = peer(*photos)
    assert torch.equal(pgd(resnet18, *photos, eps=EPS, alpha=ALPHA, steps=10, random_start=False), expected)
    assert torch.equal(bim(resnet18, *photos, eps=EPS, alpha=ALPHA, steps=10), expected)


def test_l2_steps_equal_torchattacks(
    resnet18: nn.Module, photos: tuple[Tensor, Tensor], torchattacks: Any
) -> None:
    peer = torchattacks.PGDL2(resnet18, eps=0.5, alpha=0.1, steps=5, random_start=False)
    found = pgd(resnet18, *photos, eps=0.5, alpha=0.1, steps=5, norm="l2", random_start=False)
    torch.testing.assert_close(found, peer(*photos), rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_mim_equals_torchattacks(
    decay: float, resnet18: nn.Module, photos: tuple[Tensor, Tensor], torchattacks: Any
) -> None:
    peer = torchattacks.MIFGSM(resnet18, eps=EPS, alpha=ALPHA, steps=10, decay=decay)
    found = mim(resnet18, *photos, eps=EPS, alpha=ALPHA, steps=10, decay=decay)
    torch.testing.assert_close(found, peer(*photos), rtol=0, atol=1e-6)


APGD = [
    ("linf", 0.15, "cross_entropy"),
    ("linf", 0.15, "dlr"),
    ("l2", 0.8, "cross_entropy"),
    ("l2", 0.8, "dlr"),
]


@pytest.mark.parametrize(("norm", "eps", "loss"), APGD)
def test_apgd_is_as_strong_as_the_authors(
    norm: Any, eps: float, loss: Any, trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    peers = pytest.importorskip("pyautoattack.autopgd_base")
    names = {"linf": "Linf", "l2": "L2", "cross_entropy": "ce", "dlr": "dlr"}
    peer = peers.APGDAttack(
        trained,
        norm=names[norm],
        eps=eps,
        n_iter=50,
        n_restarts=2,
        loss=names[loss],
        seed=0,
        eot_iter=1,
        rho=0.75,
        device="cpu",
        logger=logging.Logger("silent", level=logging.CRITICAL),
    )
    expected = (~fooled(trained, peer.perturb(*attacked), attacked[1])).float().mean()
    found = apgd(trained, *attacked, eps=eps, norm=norm, loss=loss, steps=50, restarts=2)
    kept = (~fooled(trained, found, attacked[1])).float().mean()
    assert 0.2 < expected < 0.6
    assert expected - 0.02 < kept <= expected + 0.01 + 1e-6


def test_square_is_as_strong_as_torchattacks(
    trained: nn.Module, attacked: tuple[Tensor, Tensor], torchattacks: Any
) -> None:
    images, labels = attacked[0][:100], attacked[1][:100]
    for norm, name, eps in (("linf", "Linf", 0.15), ("l2", "L2", 0.8)):
        peer = torchattacks.Square(trained, norm=name, eps=eps, n_queries=300)(images, labels)
        found = square(trained, images, labels, norm=norm, eps=eps, n_queries=300)
        theirs, ours = (fooled(trained, x, labels).float().mean() for x in (peer, found))
        assert ours >= theirs - 0.01
        assert ours > 0.4


STRONG = {
    "fgsm": lambda *batch, eps, norm: fgsm(*batch, eps=eps, norm=norm),
    "bim": lambda *batch, eps, norm: bim(*batch, eps=eps, alpha=eps / 2, steps=20, norm=norm),
    "mim": lambda *batch, eps, norm: mim(*batch, eps=eps, alpha=eps / 2, steps=20, norm=norm),
    "pgd": lambda *batch, eps, norm: pgd(*batch, eps=eps, alpha=eps / 2, steps=40, norm=norm),
    "cw-margin": lambda *batch, eps, norm: cw_margin(*batch, eps=eps, alpha=eps / 2, steps=40, norm=norm),
    "apgd-ce": lambda *batch, eps, norm: apgd(*batch, eps=eps, norm=norm, steps=30),
    "apgd-dlr": lambda *batch, eps, norm: apgd(*batch, eps=eps, norm=norm, steps=30, loss="dlr"),
    "apgd-t": lambda *batch, eps, norm: apgd_targeted(
        *batch, eps=eps, norm=norm, steps=30, n_target_classes=1
    ),
    "square": lambda *batch, eps, norm: square(*batch, eps=eps, norm=norm, n_queries=400),
}


@pytest.mark.parametrize("attack", STRONG)
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_a_linear_classifier_is_fooled_exactly_where_it_can_be(attack: str, norm: Any, dual: int) -> None:
    generator = torch.Generator().manual_seed(0)
    model = Linear(torch.randn(3, 6, 6, generator=generator), classes=4)
    weight = model.weight.detach()
    eps = 0.04 if norm == "linf" else 0.3
    reach = eps * torch.linalg.vector_norm(weight, ord=dual)
    # Images well inside [0, 1] whose score is a given share of what the budget can take away.
    shares = torch.linspace(0.05, 1.95, 96)
    images = 0.5 + 0.1 * (torch.rand(96, 3, 6, 6, generator=generator) - 0.5)
    scores = (images * weight).sum((1, 2, 3))
    images = images + ((shares * reach - scores) / weight.square().sum()).view(-1, 1, 1, 1) * weight
    assert 0.25 < images.min() < images.max() < 0.75
    labels = torch.ones(96, dtype=torch.int64)
    found = STRONG[attack](model, images, labels, eps=eps, norm=norm)
    # Random search comes near the best corner of the ball; gradient attacks reach it.
    nearly = {"linf": 0.75, "l2": 0.55}[norm] if attack == "square" else 0.98
    assert fooled(model, found, labels)[shares < nearly].all()
    assert not fooled(model, found, labels)[shares > 1.001].any()
