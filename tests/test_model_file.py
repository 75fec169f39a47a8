"""The model file: whole or not at all, and nothing believed before it is checked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylize.errors import StylizeError, UsageError
from stylize.model_file import (
    ModelCard,
    file_sha256,
    read_card,
    read_model,
    read_thumbnail,
    write_model,
)
from stylize.networks.transformer import TransformerNet

CARD = ModelCard(
    name="tiny",
    norm="instance",
    width=0.125,
    title="A painting",
    style_image="painting.png",
    style_sha256="0" * 64,
    perceptual={"name": "vgg", "sha256": "1" * 64, "architecture": "vgg19"},
    settings={"steps": 3},
    photos=12,
    steps=3,
    held_out_before=None,
    held_out_after=None,
    licence="MIT",
    version="0",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    tensors = TransformerNet("instance", 0.125).state_dict()
    write_model(path, CARD, tensors | {"target.relu1_2": torch.eye(4)})
    return path


def rewrite(path: Path, source: Path, change: Any) -> Path:
    """A copy of a model file whose header went through `change`."""
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


def test_round_trip(model: Path) -> None:
    found = read_model(model)
    assert found.card == CARD == read_card(model)
    assert found.sha256 == file_sha256(model)
    TransformerNet("instance", 0.125).load_state_dict(found.tensors())
    assert np.array_equal(found.targets["relu1_2"], np.eye(4))


def test_half_precision_reads_as_single(model: Path, tmp_path: Path) -> None:
    found = read_model(model)
    tensors = {name: tensor.half() for name, tensor in found.tensors().items()}
    write_model(tmp_path / "half.safetensors", CARD, tensors)
    for name, array in read_model(tmp_path / "half.safetensors").arrays.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, found.arrays[name].astype(np.float16))


def test_a_small_picture_is_no_tensor_of_the_network(model: Path, tmp_path: Path) -> None:
    assert read_thumbnail(model) is None
    tensors = read_model(model).tensors()
    path = tmp_path / "pictured.safetensors"
    picture = torch.arange(5 * 6 * 3, dtype=torch.uint8).reshape(5, 6, 3)
    write_model(path, CARD, tensors | {"thumbnail": picture})
    found = read_thumbnail(path)
    assert found is not None
    assert np.array_equal(found, picture.numpy())
    assert read_model(path).arrays.keys() == tensors.keys()
    for wrong in (
        picture.float(),
        picture[..., 0],
        picture[:, :, :2],
        torch.zeros(300, 9, 3).byte(),
    ):
        write_model(path, CARD, tensors | {"thumbnail": wrong.contiguous()})
        with pytest.raises(StylizeError, match="tensor thumbnail is"):
            read_card(path)
    name = next(iter(tensors))
    write_model(path, CARD, tensors | {name: tensors[name].byte()})
    with pytest.raises(StylizeError, match=f"tensor {name} is U8"):
        read_model(path)


def test_equal_models_give_equal_files(model: Path, tmp_path: Path) -> None:
    found = read_model(model)
    targets = {f"target.{k}": torch.from_numpy(v) for k, v in found.targets.items()}
    again = tmp_path / "again.safetensors"
    write_model(again, CARD, targets | found.tensors())
    assert again.read_bytes() == model.read_bytes()


def test_an_error_while_writing_leaves_the_old_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.safetensors"
    path.write_bytes(b"old")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StylizeError, match="No space left on device"):
        write_model(path, CARD, {"x": torch.zeros(1)})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_wide_header_is_refused_before_anything_is_allocated(model: Path, tmp_path: Path) -> None:
    def widen(header: dict[str, Any]) -> None:
        header["res1a.conv.weight"]["shape"] = [10**6, 10**6, 3, 3]

    with pytest.raises(StylizeError, match=r"res1a\.conv\.weight is F32 \(1000000"):
        read_card(rewrite(tmp_path / "wide.safetensors", model, widen))


def test_other_damage(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    cases: list[tuple[Any, str]] = [
        (lambda h: h.pop("out.conv.bias"), r"out\.conv\.bias is missing"),
        (lambda h: h["out.conv.bias"].update(data_offsets=[0, 10**12]), "inside the file"),
        (lambda h: h["out.conv.bias"].update(dtype="I64"), "cannot be read"),
        (lambda h: h["out.conv.bias"].pop("shape"), "cannot be read"),
        (lambda h: h.update(extra=h["out.conv.bias"]), "tensor extra"),
        (lambda h: h.pop("__metadata__"), "no model that stylize wrote"),
        (lambda h: h["__metadata__"].update(stylize="[]"), "card cannot be read"),
        (lambda h: h["__metadata__"].update(stylize='{"format": 99}'), "newer stylize"),
    ]
    for change, message in cases:
        with pytest.raises(StylizeError, match=message):
            read_card(rewrite(path, model, change))
    path.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(StylizeError, match="inside the file"):
        read_model(path)


def test_a_card_of_an_impossible_network_is_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    write_model(path, replace(CARD, ground=9.0), {"x": torch.zeros(1)})
    with pytest.raises(StylizeError, match="ground is 9"):
        read_card(path)
    write_model(path, replace(CARD, width=1e9), {"x": torch.zeros(1)})
    with pytest.raises(StylizeError, match="width is 1000000000"):
        read_card(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": 5}, {"steps": "many"}, {"settings": None}, {"perceptual": []},
        {"start": {"steps": 3}}, {"start": "random"},
        {"held_out_after": {"content": 0.1, "style": 0.2}},
        {"held_out_after": {"content": 0.1, "style": 0.2, "total": "low", "photos": 3}},
    ],
)  # fmt: skip
def test_a_card_with_something_else_in_it_is_refused(
    model: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """Or `stylize styles` would fail over it, and show none."""
    path = tmp_path / "wrong.safetensors"
    field = next(iter(wrong))
    card = json.dumps(asdict(CARD) | wrong)
    rewrite(path, model, lambda h: h["__metadata__"].update(stylize=card))
    with pytest.raises(StylizeError, match=f"card cannot be read: its {field} is "):
        read_card(path)


def test_a_number_beyond_floats_is_refused(model: Path, tmp_path: Path) -> None:
    loss = {"content": 0.1, "style": 0.2, "total": 10**400, "photos": 3}
    card = json.dumps(asdict(CARD) | {"held_out_after": loss})
    path = tmp_path / "huge.safetensors"
    rewrite(path, model, lambda h: h["__metadata__"].update(stylize=card))
    with pytest.raises(StylizeError, match="card cannot be read: a number of 401 digits"):
        read_card(path)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=64))
def test_any_bytes_give_one_of_our_errors(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    with pytest.raises(StylizeError):
        read_card(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model file"):
        read_card(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="is a folder"):
        read_card(tmp_path)
