"""What both models share as `PreTrainedModel`s."""

import functools
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from .grad_cam import grad_cam
from .label_prior import check_label_prior, log_assumed_prior
from .layers import contexts_of_passes, init_layer


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
            ValueError: If a field is wrong, the backbone has no stages or blocks for experts to copy, or the checkpoint lacks
                a weight.
        """
        model = cls(cls.config_class(backbone=backbone, **fields))
        model.load_backbone(backbone)
        return model

    def load_backbone(self, backbone: str) -> None:
        """Take a backbone's pretrained weights; raises `ValueError` if the checkpoint lacks one."""
        config = self.config.backbone_config
        pretrained, info = AutoModel.from_pretrained(backbone, config=config, output_loading_info=True)
        self.backbone.load_weights(pretrained, info["missing_keys"])

    def post_init(self) -> None:
        """As in transformers; what must stay whole is named only if it is there, on a backbone the backbone's."""
        super().post_init()
        self._no_split_modules &= {type(module).__name__ for module in self.modules()}

    def set_label_prior(self, label_prior: Sequence[float] | Tensor | None) -> None:
        """Adjust the logits to a known distribution of classes: `+ log(label_prior) - log(prior that they assume)`.

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

    def log_assumed_prior(self) -> Tensor:
        """Logarithm of the class frequencies (C,) that `logits` assume: `config.label_prior`, or what training left in them."""
        return log_assumed_prior(self.config)

    def grad_cam(self, pixel_values: Tensor) -> tuple[Tensor, ModelOutput]:
        """Maps of what speaks for each expert's own first answer, of a model in evaluation mode.

        Args:
            pixel_values: (B, num_channels, H, W), normalised as the image processor does.

        Returns:
            The maps (B, M, H', W') in [0, 1], of the size of the experts' last maps, or of what the last stage or block of
            a backbone is given; and the outputs, whose `expert_logits.argmax(dim=-1)` are the answers.
        """
        return grad_cam(self, pixel_values)

    def modules_of_last_maps(self) -> list[nn.Module]:
        """The modules that give the last maps (B, D, H', W') of a network without a backbone: one an expert, or one for all."""
        raise NotImplementedError

    def differentiable_expert_logits(self, outputs: ModelOutput) -> Tensor:
        """The logits (B, M, C) of each expert's prediction, before a label prior, with gradients by its features."""
        return outputs.expert_logits

    def first_expert_weights(self) -> Tensor:
        """The weights (M, ...) of each expert's first layer."""
        raise NotImplementedError

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """Of a backbone, whether it does."""
        return self.backbone is None or self.backbone.model.supports_gradient_checkpointing

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, **kwargs
    ) -> None:
        # overridden: layers are computed a second time for the gradient, and statistics must see a batch once
        norms = [module for module in self.modules() if isinstance(module, _NormBase)]
        if norms:
            contexts = functools.partial(contexts_of_passes, norms)
            gradient_checkpointing_func = functools.partial(gradient_checkpointing_func, context_fn=contexts)
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, **kwargs)

    def get_input_embeddings(self) -> None:
        """None: images have no embeddings whose weights a last layer could share; FSDP asks."""

    def is_shared(self, name: str) -> bool:
        """Whether a module or parameter of this name is of the network and no expert has it of its own."""
        raise NotImplementedError

    def freeze_shared(self) -> None:
        """Train what experts have of their own alone."""
        for name, weight in self.named_parameters():
            weight.requires_grad_(not self.is_shared(name))

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
