"""Tests of kdcam.robustness.attacks: foolbox, hand-worked steps, and what an attack must not touch."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdcam.errors import ModelError
from kdcam.robustness.attacks import bim, fgsm, input_gradient, mim, pgd

EPS, ALPHA = 8 / 255, 2 / 255
ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": lambda *batch, norm="linf", eps=EPS: fgsm(*batch, eps=eps, norm=norm),
    "bim": lambda *batch, norm="linf", eps=EPS: bim(*batch, eps=eps, alpha=eps / 4, steps=5, norm=norm),
    "pgd": lambda *batch, norm="linf", eps=EPS: pgd(*batch, eps=eps, alpha=eps / 4, steps=5, norm=norm),
    "pgd-restarts": lambda *batch, norm="linf", eps=EPS: pgd(
        *batch, eps=eps, alpha=eps / 4, steps=2, norm=norm, restarts=3
    ),
    "mim": lambda *batch, norm="linf", eps=EPS: mim(*batch, eps=eps, alpha=eps / 4, steps=5, norm=norm),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


class Normalised(nn.Module):
    """A small network with normalisation, BatchNorm and dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.convolution((images - 0.4) / 0.2)).relu()
        return self.head(self.dropout(features.amax((2, 3))))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    network = Normalised()
    network(torch.rand(64, 3, 8, 8))
    return network.eval()


@pytest.fixture
def batch(model: nn.Module) -> tuple[Tensor, Tensor]:
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, model(images).argmax(1)


def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(model(images), targets, reduction="none")


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


class Linear(nn.Module):
    """Two logits, (0, weight * images): the gradient's sign is the weight's."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_fgsm_by_hand() -> None:
    model = Linear(torch.tensor([[[2.0, -0.5, 0.0, 3.0]]]))
    images = torch.tensor([[[[0.5, 0.5, 0.5, 0.05]]]])
    found = fgsm(model, images, torch.tensor([1]), eps=0.1)
    torch.testing.assert_close(found, torch.tensor([[[[0.4, 0.6, 0.5, 0.0]]]]))


def test_l2_step_by_hand() -> None:
    model = Linear(torch.tensor([[[3.0, -4.0]]]))
    found = fgsm(model, torch.full((1, 1, 1, 2), 0.5), torch.tensor([1]), eps=0.1, norm="l2")
    torch.testing.assert_close(found, torch.tensor([[[[0.5 - 0.06, 0.5 + 0.08]]]]))


def test_mim_sums_gradients() -> None:
    class Bent(nn.Module):
        """A loss that rises to the right at first and to the left beyond 0.55, less steeply."""

        def forward(self, images: Tensor) -> Tensor:
            x = images.sum((1, 2, 3))
            score = torch.where(x < 0.55, x, 0.55 - 0.5 * (x - 0.55))
            return torch.stack([score, torch.zeros_like(score)], dim=1)

    images, targets = torch.full((1, 1, 1, 1), 0.5), torch.tensor([1])
    # Gradients over their mean size are +1, -1: the running sums 1, 0.5 step right twice, then -0.75 left.
    steps = [mim(Bent(), images, targets, eps=0.5, alpha=0.1, steps=n, decay=0.5).item() for n in (1, 2, 3)]
    assert steps == pytest.approx([0.6, 0.5, 0.6])
    # With decay 2 the sums are 1, 2 - 1 = 1, 2 - 1 = 1.
    kept = [mim(Bent(), images, targets, eps=0.5, alpha=0.1, steps=n, decay=2.0).item() for n in (1, 2, 3)]
    assert kept == pytest.approx([0.6, 0.7, 0.8])


def test_mim_without_memory_is_bim(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    plain = bim(model, *batch, eps=EPS, alpha=ALPHA, steps=4)
    assert torch.equal(mim(model, *batch, eps=EPS, alpha=ALPHA, steps=4, decay=0.0), plain)


@every_attack
@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 0.5)])
def test_result_stays_in_the_ball_and_raises_the_loss(
    attack: Callable[..., Tensor], norm: str, eps: float, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, targets = batch
    found = attack(model, images, targets, norm=norm, eps=eps)
    change = (found - images).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert size.max() <= eps + 1e-6
    assert size.max() > 0.9 * eps
    assert found.min() >= 0
    assert found.max() <= 1
    assert loss(model, found, targets).mean() > loss(model, images, targets).mean()


@every_attack
def test_nothing_else_is_touched(
    attack: Callable[..., Tensor], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    model.train()
    model.norm.eval()
    model.convolution.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, random_state = batch[0].clone(), torch.get_rng_state()
    found = attack(model, *batch)
    assert (model.training, model.norm.training, model.dropout.training) == (True, False, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.convolution.weight.requires_grad
    assert model.head.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(batch[0], images)
    assert not found.requires_grad
    assert found.data_ptr() != batch[0].data_ptr()


def test_modes_come_back_after_an_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.train()

        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    broken = Broken()
    with pytest.raises(RuntimeError, match="out of memory"):
        fgsm(broken, *batch, eps=EPS)
    assert broken.training
    assert model.dropout.training


def test_a_network_that_draws_leaves_no_trace(batch: tuple[Tensor, Tensor]) -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images + 0.1 * torch.randn_like(images)).mean((2, 3))

    random_state = torch.get_rng_state()
    fgsm(Noisy(), batch[0], batch[1] % 3, eps=EPS)
    assert torch.equal(torch.get_rng_state(), random_state)


@every_attack
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_the_caller_turned_gradients_off(
    attack: Callable[..., Tensor], context: Any, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    expected = attack(model, *batch)
    with context():
        images, targets = batch[0].clone(), batch[1].clone()  # inference tensors under inference_mode
        assert torch.equal(attack(model, images, targets), expected)


@every_attack
def test_autocast_is_off_inside(
    attack: Callable[..., Tensor], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    expected = attack(model, *batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attack(model, *batch)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_half_precision_images_are_attacked_in_float32(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images = batch[0].to(torch.bfloat16)
    found = fgsm(model, images, batch[1], eps=EPS)
    assert found.dtype == torch.float32
    assert (found - images.float()).abs().max() <= EPS + 1e-6


@every_attack
def test_an_image_does_not_depend_on_its_neighbours(
    attack: Callable[..., Tensor], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, targets = batch
    whole = attack(model, images, targets)
    # The convolution may round otherwise for another batch size, so a few signs of tiny gradients may differ.
    torch.testing.assert_close(attack(model, images[:5], targets[:5]), whole[:5], rtol=0, atol=1e-6)


def test_random_starts_follow_from_seed_and_index(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    indices = torch.arange(100, 124)
    settings = {"eps": EPS, "alpha": ALPHA, "steps": 3}
    whole = pgd(model, images, targets, indices=indices, **settings)
    chosen = torch.tensor([20, 3, 11])
    part = pgd(model, images[chosen], targets[chosen], indices=indices[chosen], **settings)
    torch.testing.assert_close(part, whole[chosen], rtol=0, atol=1e-6)
    assert torch.equal(pgd(model, images, targets, indices=indices, **settings), whole)
    assert not torch.equal(pgd(model, images, targets, indices=indices + 1, **settings), whole)
    assert not torch.equal(pgd(model, images, targets, indices=indices, seed=1, **settings), whole)


def test_restarts_never_hurt_and_keep_what_fooled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    settings = {"eps": 2 / 255, "alpha": 1 / 255, "steps": 1}
    tries = [pgd(model, images, targets, restarts=n, **settings) for n in (1, 2, 6)]
    losses = [loss(model, found, targets) for found in tries]
    with torch.no_grad():
        fooled = [model(found).argmax(1) != targets for found in tries]
    for less, more in ((0, 1), (1, 2)):
        assert (fooled[more] | ~fooled[less]).all()
        still_right = ~fooled[more]
        assert (losses[more][still_right] >= losses[less][still_right] - 1e-6).all()
        assert torch.equal(tries[more][fooled[less]], tries[less][fooled[less]])


def test_more_budget_and_more_steps_are_not_worse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    means = [
        loss(model, bim(model, *batch, eps=eps, alpha=eps / 4, steps=10), batch[1]).mean()
        for eps in (0.01, 0.1, 1)
    ]
    assert means == sorted(means)
    with torch.no_grad():
        assert (
            model(bim(model, *batch, eps=1.0, alpha=0.1, steps=20)).argmax(1) == batch[1]
        ).float().mean() < 0.2


@every_attack
def test_zero_gradients_give_no_nan(attack: Callable[..., Tensor], batch: tuple[Tensor, Tensor]) -> None:
    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * images.mean((2, 3))

    for norm in ("linf", "l2"):
        found = attack(Flat(), batch[0], batch[1] % 3, norm=norm)
        assert found.isfinite().all()
        assert (found - batch[0]).flatten(1).norm(dim=1).max() <= EPS * (14 if norm == "linf" else 1.001)
    assert input_gradient(Flat(), batch[0], batch[1] % 3).eq(0).all()


def test_a_budget_of_zero_and_an_empty_batch(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(fgsm(model, *batch, eps=0.0), batch[0])
    empty = pgd(model, batch[0][:0], batch[1][:0], eps=EPS, alpha=ALPHA, steps=2)
    assert empty.shape == (0, 3, 8, 8)


def test_images_outside_zero_to_one_are_refused(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    for wrong in (images * 255, (images - 0.5) / 0.25, images.masked_fill(images > 0.9, torch.nan)):
        with pytest.raises(ValueError, match=r"wanted \[0, 1\]: attacks work on pixels"):
            fgsm(model, wrong, targets, eps=EPS)
    with pytest.raises(ValueError, match="uint8"):
        fgsm(model, (images * 255).byte(), targets, eps=EPS)
    for shape in ((23, 4), (24,), (), (24, 4, 1)):
        with pytest.raises(
            ValueError, match=r"wanted one integer label an image, or a row of floats \(N, K\)"
        ):
            fgsm(model, images, torch.zeros(shape), eps=EPS)
    with pytest.raises(ValueError, match="other numbers than 0 and 1"):
        fgsm(model, images, torch.full((24, 4), 0.5), eps=EPS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eps": 8.0}, "eps is 8.0"),
        ({"eps": -0.1}, "eps is -0.1"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"steps": 0}, "steps is 0"),
        ({"norm": "l1"}, "norm is 'l1'"),
        ({"restarts": 0}, "restarts is 0"),
        ({"restarts": 2, "random_start": False}, "restarts is 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    wrong: dict[str, Any], message: str, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(ValueError, match=message):
        pgd(model, *batch, **{"eps": EPS, "alpha": ALPHA, "steps": 2, **wrong})


def test_decay_below_zero_is_refused(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="decay is -1"):
        mim(model, *batch, eps=EPS, alpha=ALPHA, steps=2, decay=-1.0)


def test_a_network_without_gradient_is_named(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    class Frozen(nn.Module):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return model(images)

    with pytest.raises(ModelError, match="carries no gradient"):
        fgsm(Frozen(), *batch, eps=EPS)


@every_attack
def test_rows_raise_the_summed_binary_cross_entropy(
    model: nn.Module, batch: tuple[Tensor, Tensor], attack: Callable[..., Tensor]
) -> None:
    images, _ = batch
    rows = (model(images) > 0).float()
    found = attack(model, images, rows)
    assert float((found - images).abs().max()) <= EPS + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    losses = [
        nn.functional.binary_cross_entropy_with_logits(model(x), rows, reduction="none").sum(1)
        for x in (images, found)
    ]
    assert bool((losses[1] > losses[0]).all())
    one_by_one = torch.cat([attack(model, images[:1], rows[:1]), found[1:]])
    torch.testing.assert_close(one_by_one[:1], found[:1])


def test_fgsm_on_rows_equals_the_sign_of_a_gradient_by_hand(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, _ = batch
    rows = torch.zeros(24, 4)
    rows[::2, 1] = rows[::3, 3] = 1
    leaf = images.clone().requires_grad_()
    probabilities = model(leaf).sigmoid()
    (-(rows * probabilities.log() + (1 - rows) * (1 - probabilities).log())).sum().backward()
    expected = (images + EPS * leaf.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(fgsm(model, images, rows, eps=EPS), expected)
    torch.testing.assert_close(input_gradient(model, images, rows), leaf.grad, rtol=1e-4, atol=1e-6)


def test_the_restart_with_the_highest_loss_counts_for_rows(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, _ = batch
    rows = (model(images) > 0).float()

    def loss_of(found: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(model(found), rows, reduction="none").sum(1)

    one = pgd(model, images, rows, eps=EPS, alpha=ALPHA, steps=2)
    three = pgd(model, images, rows, eps=EPS, alpha=ALPHA, steps=2, restarts=3)
    assert bool((loss_of(three) >= loss_of(one) - 1e-6).all())
    assert bool((loss_of(three) > loss_of(one) + 1e-6).any())
