"""Settings: files, words, types, ranges."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import stylize.config
from stylize.config import TrainConfig, load_config, parse_settings
from stylize.errors import StylizeError, UsageError
from stylize.paths import shipped


def test_the_shipped_configs_differ_in_one_line() -> None:
    lines = [
        (shipped("configs") / f"{name}.toml").read_text().splitlines()
        for name in ("instance_norm", "batch_norm")
    ]
    settings = [[line for line in text if line and not line.startswith("#")] for text in lines]
    assert settings == [['norm = "instance"'], ['norm = "batch"']]


@pytest.mark.parametrize("path", sorted(shipped("configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert TrainConfig().changed(load_config(path.stem)) == TrainConfig().changed(
        load_config(str(path))
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("steps=0", "steps is 0; it must be at least 1"),
        ("width=9", "width is 9.0; it must be 0.125 to 4.0"),
        ("width=nan", "width is nan"),
        ("half_size_share=1.5", "half_size_share is 1.5; it must be 0 to 1"),
        ("steps=many", "steps is 'many'; it must be a whole number"),
        ("steps=true", "steps is True; it must be a whole number"),
        ("cuda_graph=2", "cuda_graph is 2; it must be true or false"),
        ("norm=layer", "norm is 'layer'; it must be one of instance, batch, none"),
        ("setps=3", "no setting 'setps'; did you mean steps?"),
        ("qqq=3", "no setting 'qqq'; there are norm, width"),
        ("steps", "write it as key=value"),
        ("learning_rate=0", "learning_rate is 0.0; it must be above 0"),
        ("style_layers=[1]", "style_layers is [1]; it must be a list of layer names"),
    ],
)
def test_impossible_settings_are_named(word: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        TrainConfig().changed(parse_settings([word]))
    assert message in str(error.value)


@pytest.mark.parametrize("name", [field.name for field in fields(TrainConfig)])
def test_no_setting_takes_what_is_of_no_type(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is None; it must be "):
        TrainConfig().changed({name: None})


def test_nothing_to_learn() -> None:
    with pytest.raises(UsageError, match="nothing to learn"):
        TrainConfig(content_weight=0, style_strength=0)


def test_prices_grow_with_the_style_strength() -> None:
    assert TrainConfig().price_factor == 1.0
    assert TrainConfig(style_strength=10).price_factor == pytest.approx(3.0)
    assert TrainConfig(style_strength=0.1).price_factor == pytest.approx(1 / 3)
    assert TrainConfig(style_strength=0).price_factor == 0.0
    assert TrainConfig(style_strength=1e5, loss_units="paper").price_factor == 1.0


def test_words_may_be_bare_or_quoted() -> None:
    words = ["norm=batch", 'device="cpu"', "width=1", "style_layers=relu1_2, relu2_2"]
    config = TrainConfig().changed(parse_settings(words))
    assert (config.norm, config.device, config.width) == ("batch", "cpu", 1.0)
    assert config.style_layers == ("relu1_2", "relu2_2")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no config 'batchnorm'; there are batch_norm"):
        load_config("batchnorm")
    with pytest.raises(UsageError, match="no such config file"):
        load_config(str(tmp_path / "none.toml"))
    file = tmp_path / "file.toml"
    for broken in (b"norm = ", b'title = "caf\xe9"', b"title = " + b"[" * 100_000):
        file.write_bytes(broken)
        with pytest.raises(StylizeError, match="no readable TOML"):
            load_config(str(file))
    file.write_bytes(b"\xef\xbb\xbfsteps = 3")  # as Windows' editors mark UTF-8
    assert load_config(str(file)) == {"steps": 3}


def test_every_field_has_a_docstring() -> None:
    (tree,) = ast.parse(inspect.getsource(stylize.config.TrainConfig)).body
    assert isinstance(tree, ast.ClassDef)
    documented = {
        before.target.id
        for before, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    assert documented == {field.name for field in fields(TrainConfig)}
