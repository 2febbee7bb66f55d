import pytest
import torch

from kdcam.losses.cam import CamLossConfig, cam_loss
from kdcam.losses.loss import Shapes
from kdcam.models.classifier import Widths

SHAPES = Shapes("single-label", 10, torch.arange(10), Widths(4, 4, 3, 3), None)


def test_hand_worked_value() -> None:
    # Two channels on a 1x3 map; CAAM = [1, 2, 4] -> [0, 1/3, 1]; CAM of class 1 = f0 - f1 = [1, 0, 2] -> [1/2, 0, 1].
    feature_map = torch.tensor([[[[1.0, 1.0, 3.0]], [[0.0, 1.0, 1.0]]]])
    weight = torch.tensor([[5.0, 5.0], [1.0, -1.0]])
    loss = cam_loss(feature_map, weight, torch.tensor([1]))
    assert loss.item() == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)


def test_is_zero_when_the_label_weighs_all_channels_alike() -> None:
    feature_map, weight = torch.rand(3, 4, 5, 5), torch.full((2, 4), 0.7)
    assert cam_loss(feature_map, weight, torch.tensor([0, 1, 0])).item() == pytest.approx(0, abs=1e-6)


def test_scaling_features_or_weights_changes_nothing() -> None:
    feature_map, weight, targets = torch.rand(3, 4, 5, 5), torch.randn(6, 4), torch.tensor([0, 3, 5])
    loss = cam_loss(feature_map, weight, targets)
    torch.testing.assert_close(cam_loss(10 * feature_map, 3 * weight, targets), loss)


def test_rows_of_one_label_equal_labels() -> None:
    feature_map, weight, targets = torch.rand(3, 4, 5, 5), torch.randn(6, 4), torch.tensor([0, 3, 5])
    rows = torch.nn.functional.one_hot(targets, 6).float()
    torch.testing.assert_close(cam_loss(feature_map, weight, rows), cam_loss(feature_map, weight, targets))


def test_classifier_gets_no_gradient_and_features_do() -> None:
    feature_map = torch.rand(3, 4, 5, 5, requires_grad=True)
    weight = torch.randn(6, 4, requires_grad=True)
    cam_loss(feature_map, weight, torch.tensor([0, 3, 5])).backward()
    assert weight.grad is None
    assert feature_map.grad is not None
    assert feature_map.grad.abs().sum() > 0


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    feature_map = torch.rand(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, dtype=torch.float64)
    for targets in (torch.tensor([0, 3]), torch.tensor([[0.0, 1, 1, 0], [0.3, 0, 0, 0.7]])):
        assert torch.autograd.gradcheck(lambda f, t=targets: cam_loss(f, weight, t), feature_map)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_nearly_flat_maps_give_finite_gradients(scale: float) -> None:
    feature_map = (torch.ones(2, 4, 5, 5) + scale * 1e-9 * torch.randn(2, 4, 5, 5)).requires_grad_()
    cam_loss(feature_map, torch.randn(3, 4), torch.tensor([0, 2])).backward()
    assert feature_map.grad is not None
    assert torch.isfinite(feature_map.grad).all()
    assert feature_map.grad.abs().max() < 1e4


def test_warns_of_collapse_only_when_nothing_is_learned() -> None:
    config = CamLossConfig()
    warning = config.diagnose({"cam": 0.008, "cross_entropy": 2.30}, SHAPES)
    assert warning is not None
    assert "collapsing" in warning
    assert config.diagnose({"cam": 0.008, "cross_entropy": 0.4}, SHAPES) is None
    assert config.diagnose({"cam": 0.1, "cross_entropy": 2.30}, SHAPES) is None
    assert config.diagnose({"cross_entropy": 2.30}, SHAPES) is None


def test_several_labels_hand_worked() -> None:
    # As above, the CAM being the sum of classes 0 (5 f0 + 5 f1, so the CAAM) and 1: [6, 10, 22] -> [0, 1/4, 1].
    feature_map = torch.tensor([[[[1.0, 1.0, 3.0]], [[0.0, 1.0, 1.0]]]])
    weight = torch.tensor([[5.0, 5.0], [1.0, -1.0]])
    loss = cam_loss(feature_map, weight, torch.tensor([[1.0, 1.0]]))
    assert loss.item() == pytest.approx((0 + 1 / 12 + 0) / 3)


def test_images_without_any_label_are_left_out() -> None:
    feature_map, weight = torch.rand(3, 4, 5, 5), torch.randn(6, 4)
    rows = torch.tensor([[0.0, 1, 0, 0, 1, 0], [0] * 6, [1, 0, 0, 0, 0, 0]])
    expected = cam_loss(feature_map[[0, 2]], weight, rows[[0, 2]])
    torch.testing.assert_close(cam_loss(feature_map, weight, rows), expected)
    assert cam_loss(feature_map, weight, torch.zeros(3, 6)).item() == 0
