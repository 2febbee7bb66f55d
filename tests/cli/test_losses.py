import json

from kdcam.losses import LOSSES


def test_list_names_every_loss(kdcam) -> None:
    found = kdcam("losses", "list")
    assert found.code == 0
    entries = json.loads(kdcam("losses", "list", "--json").out)
    assert [entry["name"] for entry in entries] == sorted(LOSSES)
    for entry in entries:
        assert entry["name"] in found.out
        assert "\n" not in entry["summary"]
        assert "(" not in entry["summary"]


def test_show_prints_card_and_keys(kdcam) -> None:
    for name, config in LOSSES.items():
        found = kdcam("losses", "show", name)
        assert found.code == 0
        assert (config.__doc__ or "").split("\n")[0] in found.out
        assert all(f" {key} " in found.out for key in config.model_fields if key != "name")
    document = json.loads(kdcam("losses", "show", "cam", "--json").out)
    assert document["keys"]["weight"]["default"] == 3.0


def test_an_unknown_loss_suggests_a_name(kdcam) -> None:
    found = kdcam("losses", "show", "kdd")
    assert found.code == 1
    assert "did you mean 'kd'?" in found.err
