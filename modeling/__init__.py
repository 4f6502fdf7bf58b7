"""Models, configurations and the image processor: all that inference needs.

Importing this package registers both models with transformers' Auto classes and marks the classes so that
`save_pretrained` copies this code beside the weights.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from .configuration_icl_moe import ICLMoEConfig
from .configuration_snnl_moe import SNNLMoEConfig
from .image_processing_tailmoe import TailMoEImageProcessor
from .modeling_icl_moe import ICLMoEForImageClassification, ICLMoEImageClassifierOutput
from .modeling_snnl_moe import SNNLMoEForImageClassification, SNNLMoEImageClassifierOutput

TailMoEImageProcessor.register_for_auto_class("AutoImageProcessor")
for _config, _model in (
    (ICLMoEConfig, ICLMoEForImageClassification),
    (SNNLMoEConfig, SNNLMoEForImageClassification),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModelForImageClassification.register(_config, _model)
    AutoImageProcessor.register(_config, slow_image_processor_class=TailMoEImageProcessor)
    _config.register_for_auto_class()
    _model.register_for_auto_class("AutoModelForImageClassification")

__all__ = [
    "ICLMoEConfig",
    "ICLMoEForImageClassification",
    "ICLMoEImageClassifierOutput",
    "SNNLMoEConfig",
    "SNNLMoEForImageClassification",
    "SNNLMoEImageClassifierOutput",
    "TailMoEImageProcessor",
]
