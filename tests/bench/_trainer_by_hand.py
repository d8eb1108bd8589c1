"""The loop that `trainer.py` compares the trainer with: pix2pix in plain PyTorch. Its arguments are DATA EPOCHS OUT."""

import sys
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

BATCH, CHANNELS = 8, 16


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """The images of a folder, A left and B right, mirrored at random."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = np.asarray(Image.open(self.paths[index]).convert("RGB"))
        image = torch.tensor(pixels).permute(2, 0, 1) / 127.5 - 1
        x, y = image.chunk(2, dim=2)
        return (x.flip(-1), y.flip(-1)) if torch.rand(()) < 0.5 else (x, y)


class Generator(nn.Module):
    """A U-Net that predicts what to add to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        features = (channels, channels, 2 * channels, 4 * channels, 4 * channels, channels)
        self.unet = BasicUNet(2, 3, 3, features, norm="batch", upsample="nontrainable")
        for parameter in self.unet.final_conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Translate images (N, 3, H, W)."""
        residual: Tensor = self.unet(x)
        return x + residual


torch.manual_seed(0)
data, epochs, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
batches = DataLoader(Pairs(data / "train"), BATCH, shuffle=True)
generator = Generator(CHANNELS)
discriminator = PatchDiscriminator(2, channels=CHANNELS, in_channels=6, num_layers_d=3, norm="instance")
optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
# As the paper: constant over the first half, then to zero.
decays = [
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, 2 - 2 * epoch / epochs))
    for optimizer in (optimizer_g, optimizer_d)
]
bce, l1 = nn.BCEWithLogitsLoss(), nn.L1Loss()
for epoch in range(epochs):
    for x, y in batches:
        y_fake = generator(x)
        discriminator.requires_grad_(False)
        pred_fake = discriminator(torch.cat((x, y_fake), dim=1))[-1]
        g_gan, g_l1 = bce(pred_fake, torch.ones_like(pred_fake)), 100 * l1(y_fake, y)
        optimizer_g.zero_grad()
        (g_gan + g_l1).backward()
        optimizer_g.step()

        discriminator.requires_grad_(True)
        pred_real = discriminator(torch.cat((x, y), dim=1))[-1]
        pred_fake = discriminator(torch.cat((x, y_fake.detach()), dim=1))[-1]
        d_real, d_fake = bce(pred_real, torch.ones_like(pred_real)), bce(pred_fake, torch.zeros_like(pred_fake))
        optimizer_d.zero_grad()
        ((d_real + d_fake) / 2).backward()
        optimizer_d.step()
    for decay in decays:
        decay.step()
    losses = {"G_GAN": g_gan, "G_L1": g_l1, "D_real": d_real, "D_fake": d_fake}
    print(f"epoch {epoch + 1}:", *(f"{name} {loss.item():.4f}" for name, loss in losses.items()), flush=True)
networks = {"generator": generator.state_dict(), "discriminator": discriminator.state_dict()}
torch.save({**networks, "optimizers": [optimizer_g.state_dict(), optimizer_d.state_dict()]}, out)
