"""Whether published weights can be had: they lie on this machine, or the host that they come from answers."""

import os
import ssl
import threading
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from torch import hub

from kdcam.errors import ModelError
from kdcam.files.paths import is_file

ANSWER_SECONDS = 6.0  # until a host that does not answer is given up; kdcam's choice, for a user who waits
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm looks for them


def fetched_from_hub(name: str, published: Mapping[str, Any]) -> Path | None:
    """Return the file of timm's weights where it lies on this machine and must be taken as it is.

    None: timm may ask the host that they come from, which answers. Without this, timm tries for a minute.

    Args:
        name: of the network, for the message.
        published: its ``pretrained_cfg``: the fields hf_hub_id, hf_hub_filename and url are read.

    Raises ``ModelError`` where the weights are not here, and their host does not answer or may not be asked.
    """
    repository = published.get("hf_hub_id")
    if not repository:
        if published.get("url"):
            check_fetchable(name, str(published["url"]))
        return None
    from huggingface_hub import constants, try_to_load_from_cache  # here: only weights of the hub need it

    offline = bool(constants.HF_HUB_OFFLINE)
    if not offline and is_answering(constants.ENDPOINT):
        return None
    names = (published["hf_hub_filename"],) if published.get("hf_hub_filename") else _HUB_FILES
    for one in names:
        found = try_to_load_from_cache(repository, one)
        if isinstance(found, str):
            return Path(found)
    raise ModelError(
        _needs_download(
            name, f"{constants.ENDPOINT} ({repository})", "HF_HUB_OFFLINE forbids it" if offline else None
        )
    )


def check_fetchable(name: str, address: str) -> None:
    """Raise ``ModelError`` where torch.hub does not hold the file of an address and the address does not answer."""
    parts = urlsplit(address)
    if is_file(Path(hub.get_dir()) / "checkpoints" / Path(parts.path).name):
        return
    host = f"{parts.scheme}://{parts.netloc}"
    if not is_answering(host):
        raise ModelError(_needs_download(name, host, None))


def is_answering(address: str) -> bool:
    """Return whether an http address answers within `ANSWER_SECONDS`; a proxy of the environment is used."""
    answers: list[bool] = []
    # In a thread: how long a name is looked up has no limit of its own.
    asking = threading.Thread(target=lambda: answers.append(_answers(address)), daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    return answers == [True]


def _answers(address: str) -> bool:
    try:
        urlopen(Request(address, method="HEAD"), timeout=ANSWER_SECONDS).close()
    except HTTPError:
        return True  # a refusal is an answer
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # so is a certificate, which other libraries may trust
    except (OSError, ValueError, HTTPException):
        return False
    return True


def _needs_download(name: str, host: str, reason: str | None) -> str:
    proxies = [
        key for key in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy") if os.environ.get(key)
    ]
    through = f" through {proxies[0]}" if proxies else ""
    why = reason or f"it does not answer{through}"
    return (
        f"model.pretrained: the weights of {name} are not on this machine and need a download from {host}, but {why}; "
        "connect the machine once, or fetch the file elsewhere and name it in model.weights, with pretrained = false"
    )


__all__ = ["ANSWER_SECONDS", "check_fetchable", "fetched_from_hub", "is_answering"]
