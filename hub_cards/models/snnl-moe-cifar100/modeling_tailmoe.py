"""What both models share as `PreTrainedModel`s."""

from typing import Self

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel

from .layers import init_layer


class TailMoEPreTrainedModel(PreTrainedModel):
    """An image classifier of experts, on a network of its own or on a backbone (`model.backbone`, else None)."""

    main_input_name = "pixel_values"
    input_modalities = ("image",)
    accepts_loss_kwargs = False  # the loss is a mean over the batch it is given

    @classmethod
    def from_backbone(cls, backbone: str, **fields) -> Self:
        """A model on the network and the pretrained weights of a backbone; its classifiers are new.

        Args:
            backbone: Checkpoint of transformers or timm, on the Hub or in a folder.
            fields: Of the model's configuration, such as `num_labels` and `num_experts`.

        Raises:
            ValueError: If a field is wrong, or the backbone has no stages or blocks for experts to copy.
        """
        model = cls(cls.config_class(backbone=backbone, **fields))
        model.backbone.load_weights(AutoModel.from_pretrained(backbone))
        return model

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """With a backbone that does; batch normalisation would see each batch twice."""
        return self.backbone is not None and self.backbone.model.supports_gradient_checkpointing

    def shared_modules(self) -> list[nn.Module]:
        """The parts of the network that no expert has of its own."""
        raise NotImplementedError

    def freeze_shared(self) -> None:
        """Train what experts have of their own alone."""
        for module in self.shared_modules():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """As in torch; frozen batch normalisation keeps its statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        init_layer(module)
