"""Tests of kdcam.models.weights.download; nothing leaves this machine."""

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import huggingface_hub
import pytest
import torch

import kdcam
from kdcam.errors import CheckpointError, ModelError
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights import download

HUB = {"hf_hub_id": "timm/some.network"}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An address at which nobody listens; nothing is in the caches, and no proxy stands between."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    for key in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    return address


class _Refuses(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that answers every question with 403."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_refusal_is_an_answer_and_silence_is_none(closed: str, refusing: str) -> None:
    assert download.is_answering(refusing)
    assert not download.is_answering(closed)
    assert not download.is_answering("no address")


def test_a_place_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(download, "_answers", lambda address: time.sleep(5) or True)
    start = time.monotonic()
    assert not download.is_answering("http://somewhere")
    assert time.monotonic() - start < 3


def test_a_certificate_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **keys: object) -> None:
        raise URLError(ssl.SSLCertVerificationError("unknown issuer"))

    monkeypatch.setattr(download, "urlopen", unknown)
    assert download.is_answering("https://somewhere")


def test_weights_of_the_hub_without_a_connection(closed: str) -> None:
    said = rf"weights of some\.network are not on this machine .* from {closed} \(timm/some\.network\), but it does not"
    with pytest.raises(ModelError, match=said):
        download.fetched_from_hub("some.network", HUB)


def test_the_proxy_that_does_not_answer_is_named(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", closed)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    with pytest.raises(ModelError, match=r"it does not answer through HTTPS_PROXY; connect the machine once"):
        download.fetched_from_hub("some.network", HUB)


def test_offline_mode_is_respected(refusing: str, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", refusing)
    assert download.fetched_from_hub("some.network", HUB) is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="but HF_HUB_OFFLINE forbids it"):
        download.fetched_from_hub("some.network", HUB)


def test_weights_in_the_cache_need_no_connection(closed: str) -> None:
    hub = Path(huggingface_hub.constants.HF_HUB_CACHE) / "models--timm--some.network"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc")
    file = hub / "snapshots" / "abc" / "pytorch_model.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    assert download.fetched_from_hub("some.network", HUB) == file
    with pytest.raises(ModelError, match="not on this machine"):
        download.fetched_from_hub("some.network", {**HUB, "hf_hub_filename": "other.bin"})


def test_weights_of_torch_hub(closed: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"need a download from {closed}, but it does not answer;"):
        download.check_fetchable("torchvision:resnet18", f"{closed}/models/resnet18.pth")
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "checkpoints" / "resnet18.pth").write_bytes(b"weights")
    download.check_fetchable("torchvision:resnet18", f"{closed}/models/resnet18.pth")


@pytest.mark.usefixtures("closed")
def test_a_named_network_without_a_connection_is_one_quick_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "is_answering", lambda address: False)
    start = time.monotonic()
    for name in ("test_resnet", "torchvision:resnet18"):
        with pytest.raises(
            CheckpointError, match=rf"{name}: its published weights cannot be had: .*download"
        ):
            kdcam.load(name)
    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("closed")
def test_the_cached_file_is_what_timm_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from safetensors.torch import save_file

    own = timm.create_model("test_resnet", num_classes=1000)
    save_file(own.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "kdcam.models.build.fetched_from_hub", lambda name, published: tmp_path / "model.safetensors"
    )
    config = ModelConfig.model_validate({"name": "test_resnet", "pretrained": True})
    found = build_classifier(config, num_classes=1000, in_channels=3, image_size=64)
    assert torch.equal(found.network.conv1[0].weight, own.conv1[0].weight)
