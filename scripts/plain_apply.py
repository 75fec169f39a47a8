"""The plain way to restyle a photo, which scripts/bench_apply.py holds stylize against.

    python scripts/plain_apply.py WEIGHTS.pth PHOTO OUTPUT

What one writes after reading the paper: torch, torchvision, nn.Modules, torch's own instance norm,
a state_dict, float32, eager, inference_mode, default threads. Nothing of stylize.
"""

import sys

import torch
import torchvision.transforms.functional as transforms
from PIL import Image
from torch import Tensor, nn


class Stage(nn.Module):
    """Enlarge, reflect, convolve, normalise, ReLU."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        upsample: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=upsample) if upsample > 1 else nn.Identity()
        self.pad = nn.ReflectionPad2d(kernel // 2)
        self.conv = nn.Conv2d(cin, cout, kernel, stride, bias=False)
        self.norm = nn.InstanceNorm2d(cout, affine=True)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        y: Tensor = self.relu(self.norm(self.conv(self.pad(self.upsample(x)))))
        return y


class Transformer(nn.Module):
    """Johnson's network, with the names of stylize's model files."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = Stage(3, 32, 9), Stage(32, 64, 3, stride=2)
        self.down3 = Stage(64, 128, 3, stride=2)
        for n in range(1, 6):
            setattr(self, f"res{n}a", Stage(128, 128, 3))
            setattr(self, f"res{n}b", Stage(128, 128, 3, relu=False))
        self.up1, self.up2 = Stage(128, 64, 3, upsample=2), Stage(64, 32, 3, upsample=2)
        self.out = nn.ModuleDict({"conv": nn.Conv2d(32, 3, 9)})
        self.pad = nn.ReflectionPad2d(4)

    def forward(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) in 0..1 -> the same."""
        height, width = photo.shape[2:]
        x: Tensor = self.down3(self.down2(self.down1(photo - 0.5)))
        for n in range(1, 6):
            x = x + self.get_submodule(f"res{n}b")(self.get_submodule(f"res{n}a")(x))
        x = self.out["conv"](self.pad(self.up2(self.up1(x))))
        return x[..., :height, :width]


def main() -> None:
    """Restyle one photo."""
    weights, source, target = sys.argv[1:]
    network = Transformer().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    photo = transforms.to_tensor(Image.open(source).convert("RGB"))[None]
    with torch.inference_mode():
        restyled = network(photo).clamp(0, 1)
    transforms.to_pil_image(restyled[0]).save(target, quality=95)


if __name__ == "__main__":
    main()
