"""Early exit: experts are asked in order, and an image stops as soon as those asked so far agree enough.

The idea is RIDE's (Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware Experts", ICLR 2021);
a threshold takes the place of its trained router.
"""

from collections.abc import Generator

import torch
from torch import Tensor

# gives each expert's logits (n, C) in order; is sent which of the n images go on to the next expert, None for all
Experts = Generator[Tensor, Tensor | None, None]


def exit_early(experts: Experts, threshold: float) -> tuple[Tensor, Tensor]:
    """Ask experts until the largest probability of their mean logits is at least `threshold`, for each image by itself.

    Of one expert this is its confidence. Of several it is high only where they agree: means of different answers are flat.

    Returns:
        The mean logits (B, C) of the experts that were asked, and their number (B,) for each image.
    """
    asked = next(experts)[:, None]  # (n, experts so far, C), of the n images that are not sure yet
    logits = torch.empty_like(asked[:, 0])
    num_experts_used = torch.empty(len(asked), dtype=torch.long, device=asked.device)
    images = torch.arange(len(asked), device=asked.device)
    while True:
        mean = asked.mean(dim=1)
        logits[images], num_experts_used[images] = mean, asked.shape[1]
        unsure = mean.float().softmax(dim=-1).amax(dim=-1) < threshold
        if not unsure.any():
            break
        images, asked = images[unsure], asked[unsure]
        try:
            asked = torch.cat([asked, experts.send(unsure)[:, None]], dim=1)
        except StopIteration:
            break
    experts.close()
    return logits, num_experts_used
