"""What the tests of published objectives share: objectives of a page, comparison of totals, networks written out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from documents import ROOT, blocks
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

PAGE = ROOT / "docs/published-objectives.md"
VGG16, VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


def of_the_page(name: str) -> Any:
    """Run the block of `docs/published-objectives.md` that defines a name, and return what it is."""
    (block,) = (block for block in blocks(PAGE, "python") if re.search(rf"^{name} = ", block.text, re.M))
    namespace: dict[str, Any] = {}
    exec(compile("\n" * block.line + block.text, block.page, "exec", dont_inherit=True), namespace)
    return namespace[name]


def gradients(total: Tensor, network: nn.Module) -> Tensor:
    """Return the gradient of a total with respect to all parameters of a network, 0 where there is none."""
    found = torch.autograd.grad(
        total, [*network.parameters()], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([each.reshape(-1) for each in found])


def assert_same(total: Tensor, expected: Tensor, network: nn.Module) -> None:
    """Compare two totals, and their gradients with respect to a network, relative to the norm of the gradient."""
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-7)
    found, wanted = gradients(total, network), gradients(expected, network)
    assert wanted.norm() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def vgg(
    image: Tensor,
    parameters: Mapping[str, Tensor],
    convolutions: Sequence[int],
    pool: Callable[[Tensor], Tensor] = lambda features: functional.max_pool2d(features, 2),
) -> dict[str, Tensor]:
    """Return the features of a VGG by layer, such as `conv1_1` and `relu1_1`.

    Args:
        image: The image, as the network expects it.
        parameters: Weights and biases by the keys of torchvision; the network ends with the last of them.
        convolutions: How many there are in each block.
        pool: What stands between blocks.
    """
    features: dict[str, Tensor] = {}
    position = 0
    for block, count in enumerate(convolutions, start=1):
        if block > 1:
            image = pool(image)
            position += 1
        for number in range(1, count + 1):
            weight, bias = (parameters.get(f"features.{position}.{kind}") for kind in ("weight", "bias"))
            if weight is None:
                return features
            features[f"conv{block}_{number}"] = functional.conv2d(image, weight, bias, padding=1)
            image = features[f"relu{block}_{number}"] = features[f"conv{block}_{number}"].relu()
            position += 2
    return features
