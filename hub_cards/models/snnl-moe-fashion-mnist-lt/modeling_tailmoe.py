"""What both models share as `PreTrainedModel`s."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from .label_prior import check_label_prior
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

    def post_init(self) -> None:
        """As in transformers; what must stay whole is named only if it is there, on a backbone the backbone's."""
        super().post_init()
        self._no_split_modules &= {type(module).__name__ for module in self.modules()}

    def set_label_prior(self, label_prior: Sequence[float] | Tensor | None) -> None:
        """Re-aim the logits at a known distribution of classes: `+ log(label_prior) - log(prior that they assume)`.

        They assume that all classes are equally frequent, or as frequent as in training, as training left them. The prior
        is `config.label_prior`, saved with the model, and acts in evaluation mode; a loss is always of the logits as
        trained.

        Args:
            label_prior: Probabilities or counts of the C classes where the model predicts, at least 0; a class of 0 is
                practically never answered. None for the logits as trained.

        Raises:
            ValueError: If it is no distribution over the labels, or the frequencies that the logits assume are unknown.
        """
        before = self.config.label_prior
        try:
            self.config.label_prior = None if label_prior is None else [float(value) for value in label_prior]
            check_label_prior(self.config)
        except ValueError:
            self.config.label_prior = before
            raise

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """With a backbone that does; batch normalisation would see each batch twice."""
        return self.backbone is not None and self.backbone.model.supports_gradient_checkpointing

    def get_input_embeddings(self) -> None:
        """None: images have no embeddings whose weights a last layer could share; FSDP asks."""

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
