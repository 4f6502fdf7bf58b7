"""Two fixed images, and a model's logits for them: the same as long as neither its weights nor what its code does change.

    python -P fixed_images.py FOLDER

prints the logits as JSON, by the code that lies beside the weights in the folder, out of tailmoe's reach.
"""

import json
import sys

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel

SEED = 0


def fixed_images(config: PreTrainedConfig) -> Tensor:
    """Noise, as the image processor would leave it: (2, channels, size, size)."""
    size = config.image_size
    return torch.randn(2, config.num_channels, size, size, generator=torch.Generator().manual_seed(SEED))


def how_made(config: PreTrainedConfig) -> str:
    """What makes the images."""
    size = config.image_size
    return f"torch.randn(2, {config.num_channels}, {size}, {size}, generator=torch.Generator().manual_seed({SEED}))"


@torch.inference_mode()
def logits_of(model: PreTrainedModel) -> Tensor:
    """Logits of the fixed images: (2, classes)."""
    return model.eval()(pixel_values=fixed_images(model.config)).logits


if __name__ == "__main__":
    sys.modules["tailmoe"] = None
    AutoImageProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
    own = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
    assert type(own).__module__.startswith("transformers_modules."), "the code beside the weights was not used"
    sys.stdout.write(f"{json.dumps(logits_of(own).tolist())}\n")
