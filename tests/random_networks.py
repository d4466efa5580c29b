"""Networks with random weights that behave as trained ones do: nothing dies, nothing explodes."""

from typing import Any


def pictures(count: int, channels: int, side: int, seed: int) -> Any:
    """Give smooth random images, with some noise.

    Deep in a network, white noise is the same everywhere: normalising what is left of it would
    amplify rounding.
    """
    import torch  # noqa: PLC0415 - tests without torch import this file too

    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return smooth + 0.1 * torch.randn(smooth.shape, generator=generator)


def calibrated(network: Any, channels: int = 1, side: int = 96, seed: int = 1) -> Any:
    """Set the statistics of every batch normalisation by random images, and give random affines.

    Without that, the signal of a deep random network fades or grows, and any two maps look alike.
    """
    import torch  # noqa: PLC0415 - likewise
    from torch import nn  # noqa: PLC0415 - likewise

    generator = torch.Generator().manual_seed(seed)
    network.eval()
    normalisations = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    with torch.no_grad():
        for each in normalisations:
            each.weight.copy_(0.5 + torch.rand(each.weight.shape, generator=generator))
            each.bias.copy_(0.3 * torch.randn(each.bias.shape, generator=generator))
            each.reset_running_stats()
            each.train()
            each.momentum = None
        network(pictures(8, channels, side, seed))
    for each in normalisations:
        each.momentum = 0.1
    head = getattr(network, "head", None)
    if head is not None:
        with torch.no_grad():
            head.weight.copy_(0.1 * torch.randn(head.weight.shape, generator=generator))
            head.bias.copy_(torch.randn(head.bias.shape, generator=generator))
    return network.eval()
