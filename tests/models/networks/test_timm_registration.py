import subprocess
import sys

import pytest
import timm
import torch
from long_tests import in_long

from kdcam.models.networks import CIFAR_NETWORKS
from kdcam.models.networks.timm_registration import TIMM_PREFIX, offer_to_timm, register_with_timm


def run_python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("order", ["import timm, kdcam.models", in_long("import kdcam.models, timm")])
def test_registered_in_either_order(order: str) -> None:
    run_python(
        f"{order}\n"
        "import sys, torch\n"
        "network = timm.create_model('kdcam_resnet20', num_classes=100)\n"
        "assert sum(p.numel() for p in network.parameters()) == 278324\n"
        "assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 100)\n"
        "assert not [f for f in sys.meta_path if type(f).__module__.startswith('kdcam')]\n"
        "assert 'kdcam' not in repr(timm.__spec__), timm.__spec__\n"
    )


def test_importing_a_submodule_of_timm_registers_too() -> None:
    run_python("import kdcam.models\nfrom timm.models import is_model\nassert is_model('kdcam_resnet8x4')")


def test_looking_for_timm_does_not_disturb() -> None:
    run_python(
        "import kdcam.models, importlib.util, importlib.resources, sys\n"
        "assert importlib.util.find_spec('timm').origin.endswith('__init__.py')\n"
        "assert 'timm' not in sys.modules\n"
        "import timm\n"
        "assert timm.is_model('kdcam_resnet8')\n"
        "assert importlib.resources.files('timm').joinpath('version.py').is_file()\n"
    )


def test_a_kdcam_network_needs_neither_timm_nor_torchvision() -> None:
    run_python(
        "import sys\n"
        "from kdcam.models import ModelConfig, build_classifier, check_cam, widths\n"
        "config = ModelConfig(name='kdcam:resnet8_s2')\n"
        "classifier = build_classifier(config, num_classes=10, in_channels=1, image_size=32)\n"
        "check_cam(classifier), widths(classifier)\n"
        "heavy = {'timm', 'torchvision', 'sklearn', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )


def test_a_misspelt_kdcam_name_needs_no_timm_either() -> None:
    run_python(
        "import sys\n"
        "from kdcam.errors import ModelError\n"
        "from kdcam.models import ModelConfig, build_classifier\n"
        "config = ModelConfig(name='kdcam:resnet21')\n"
        "try:\n"
        "    build_classifier(config, num_classes=2, in_channels=3, image_size=32)\n"
        "except ModelError as error:\n"
        "    assert 'kdcam:resnet20' in str(error)\n"
        "assert 'timm' not in sys.modules\n"
    )


def test_no_name_of_timm_is_touched() -> None:
    ours = {name for name in timm.list_models() if name.startswith(TIMM_PREFIX)}
    assert ours == {TIMM_PREFIX + name for name in CIFAR_NETWORKS}
    register_with_timm()  # a second time does nothing, without a warning
    offer_to_timm()


def test_module_names_stay_clean() -> None:
    from kdcam.models.networks import timm_registration

    assert timm_registration.__all__ == sorted(timm_registration.__all__)
    assert all(hasattr(timm_registration, name) for name in timm_registration.__all__)


def test_timm_options_reach_the_network() -> None:
    network = timm.create_model("kdcam_resnet8_s2", num_classes=4, in_chans=1, drop_rate=0.1)
    assert network.drop_rate == 0.1
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 4)
    assert network.pretrained_cfg["classifier"] == "fc"
