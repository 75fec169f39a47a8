"""Models of the PyTorch example program restyle here as they do there."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import stylize
from stylize.errors import StylizeError
from stylize.interchange.foreign import convert, import_model
from stylize.model_file import read_card
from tests.conftest import Run, assert_one_line, make_picture


class Layer(nn.Module):
    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int = 1, upsample: int = 1
    ) -> None:
        super().__init__()
        self.upsample, self.padding = upsample, kernel // 2
        self.conv2d = nn.Conv2d(cin, cout, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample > 1:
            x = F.interpolate(x, mode="nearest", scale_factor=self.upsample)
        y: Tensor = self.conv2d(F.pad(x, [self.padding] * 4, mode="reflect"))
        return y


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Layer(channels, channels, 3), Layer(channels, channels, 3)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.in2(self.conv2(self.in1(self.conv1(x)).relu()))
        return y + x


class Foreign(nn.Module):
    """The example's network as plain modules, 0..255 in and out; `c` is 32 there."""

    def __init__(self, c: int = 8) -> None:
        super().__init__()
        widths = {"1": (3, c, 9, 1), "2": (c, 2 * c, 3, 2), "3": (2 * c, 4 * c, 3, 2)}
        for name, (cin, cout, kernel, stride) in widths.items():
            self.add_module(f"conv{name}", Layer(cin, cout, kernel, stride))
            self.add_module(f"in{name}", nn.InstanceNorm2d(cout, affine=True))
        for number in range(1, 6):
            self.add_module(f"res{number}", Block(4 * c))
        self.deconv1, self.in4 = (
            Layer(4 * c, 2 * c, 3, upsample=2),
            nn.InstanceNorm2d(2 * c, affine=True),
        )
        self.deconv2, self.in5 = Layer(2 * c, c, 3, upsample=2), nn.InstanceNorm2d(c, affine=True)
        self.deconv3 = Layer(c, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        parts = dict(self.named_children())
        for name in "123":
            x = parts[f"in{name}"](parts[f"conv{name}"](x)).relu()
        for number in range(1, 6):
            x = parts[f"res{number}"](x)
        x = self.in4(self.deconv1(x)).relu()
        x = self.in5(self.deconv2(x)).relu()
        y: Tensor = self.deconv3(x)
        return y


@pytest.fixture(scope="module")
def foreign() -> Foreign:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = Foreign()
        for name, parameter in network.named_parameters():
            if ".in" in name or name.startswith("in"):
                nn.init.uniform_(parameter, 0.5, 1.5)
        with torch.no_grad():
            network.deconv3.conv2d.bias.fill_(120)  # type: ignore[union-attr]
            network.deconv3.conv2d.weight.mul_(30)
    return network.eval()


@pytest.fixture(scope="module")
def imported(foreign: Foreign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    torch.save(foreign.state_dict(), folder / "mosaic.pth")
    import_model(folder / "mosaic.pth", folder / "mosaic.safetensors", "A mosaic", "BSD")
    return folder / "mosaic.safetensors"


@pytest.mark.parametrize("height", range(40, 44))
@pytest.mark.parametrize("width", range(52, 56))
def test_the_same_picture(foreign: Foreign, imported: Path, height: int, width: int) -> None:
    pixels = make_picture(height, width)
    with torch.inference_mode():
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        expected = foreign(batch)[0, :, :height, :width].permute(1, 2, 0).clamp(0, 255).numpy()
    assert np.ptp(expected) > 50
    found = stylize.load(imported, device="cpu", precision="fp32")(pixels)
    assert np.abs(found - expected).max() <= 1


def test_the_card_says_where_it_is_from(imported: Path) -> None:
    card = read_card(imported)
    assert (card.name, card.title, card.licence) == ("mosaic", "A mosaic", "BSD")
    assert (card.norm, card.width) == ("instance", 0.25)
    assert card.settings["imported"] == "mosaic.pth"


def test_old_files_with_running_statistics(foreign: Foreign) -> None:
    state = dict(foreign.state_dict())
    state["in1.running_mean"] = torch.zeros(8)
    state["res1.in2.running_var"] = torch.zeros(32)
    new, old = convert("new", foreign.state_dict())[1], convert("old", state)[1]
    assert all(torch.equal(new[name], old[name]) for name in new)


def test_what_is_no_such_model_is_one_line(foreign: Foreign, tmp_path: Path, run: Run) -> None:
    state = foreign.state_dict()
    cases: dict[str, tuple[object, str]] = {
        "missing": (
            {k: v for k, v in state.items() if "res3" not in k},
            "8 keys are missing (res3",
        ),
        "strange": (state | {"head.weight": torch.zeros(2)}, "1 keys are unknown (head.weight)"),
        "list": ([torch.zeros(2)], "holds a list; a state dict is wanted"),
        "nested": ({"state_dict": state, "epoch": 2}, "holds state_dict, epoch; a state dict is"),
        "numbered": ({1: torch.zeros(2)}, "holds 1; a state dict is wanted"),
        "whole": (torch.nn.Sequential(), "holds a torch.nn.modules.container.Sequential, which is"),
        "shape": (state | {"res1.conv1.conv2d.weight": torch.zeros(3, 3, 3, 3)}, "it must be (32"),
    }
    for name, (value, message) in cases.items():
        path = tmp_path / f"{name}.pth"
        torch.save(value, path)
        with pytest.raises(StylizeError) as error:
            import_model(path, tmp_path / "out.safetensors")
        assert message in str(error.value)
    whole = io.BytesIO()
    torch.save(state, whole)
    for content in (b"no model", b"", whole.getvalue()[: len(whole.getvalue()) // 2]):
        (tmp_path / "other.pth").write_bytes(content)
        with pytest.raises(StylizeError, match=r"is damaged, or of another kind; write torch.save"):
            import_model(tmp_path / "other.pth", tmp_path / "out.safetensors")
    assert_one_line(run("import", tmp_path / "other.pth", cwd=tmp_path), 1, "no file of tensors")
    assert_one_line(run("import", tmp_path / "none.pth"), 2, "no such file")
    assert not list(tmp_path.glob("*.safetensors"))


class Mischief:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_nothing_but_tensors_is_unpickled(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"conv1.conv2d.weight": Mischief()}))
    done = run("import", path, cwd=tmp_path)
    assert_one_line(done, 1, "no file of tensors alone")
    assert "executed" not in done.stdout + done.stderr
    torch.save({"conv1.conv2d.weight": Mischief()}, path)
    done = run("import", path, cwd=tmp_path)
    assert_one_line(done, 1, "it holds a print, which is not unpickled; write torch.save")
    assert "executed" not in done.stdout + done.stderr


def test_a_network_that_was_trained_in_parallel(foreign: Foreign, tmp_path: Path) -> None:
    state = foreign.state_dict()
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "many.pth")
    torch.save(state, tmp_path / "one.pth")
    models = []
    for name in ("many", "one"):
        import_model(tmp_path / f"{name}.pth", tmp_path / f"{name}.safetensors")
        models.append(load_file(tmp_path / f"{name}.safetensors"))
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[1])


def test_the_command(foreign: Foreign, run: Run, tmp_path: Path) -> None:
    torch.save(foreign.state_dict(), tmp_path / "mosaic.pth")
    done = run("import", "mosaic.pth", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "mosaic.safetensors\n")
    assert_one_line(run("import", "mosaic.pth", cwd=tmp_path), 1, "exists; give --overwrite")
