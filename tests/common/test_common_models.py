"""transformers' common model tests on both models."""

import unittest

import torch
from transformers import PreTrainedConfig
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
)


class SmallModel:
    """A configuration and its inputs, in the form that the common tests ask for."""

    batch_size, image_size = 3, 16
    is_training = True

    def __init__(self, config: PreTrainedConfig, first_hidden_size: int, num_hidden_states: int):
        self.config = config
        # the common tests compare the last two sizes of the first hidden state: of a map, height and width
        self.seq_length = self.hidden_size = first_hidden_size
        self.expected_num_hidden_layers = num_hidden_states
        self.num_hidden_layers = num_hidden_states - 1

    def get_config(self) -> PreTrainedConfig:
        return self.config

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
        shape = [self.batch_size, self.config.num_channels, self.image_size, self.image_size]
        return self.config, {"pixel_values": floats_tensor(shape)}


class ImageClassifierTests(ModelTesterMixin):
    """What both models need said to the common tests."""

    test_resize_embeddings = False
    has_attentions = False

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels:  # which the common tests add for classes of transformers alone
            inputs["labels"] = torch.zeros(self.model_tester.batch_size, dtype=torch.long)
        return inputs

    def test_config(self):
        self.config_tester.run_common_tests()

    @unittest.skip("images have no token embeddings")
    def test_model_get_set_embeddings(self):
        pass


class ICLMoECommonTest(ImageClassifierTests, unittest.TestCase):
    all_model_classes = (ICLMoEForImageClassification,)

    def setUp(self):
        config = ICLMoEConfig(image_size=16, hidden_sizes=[4, 8, 8], depths=[1, 1, 1], num_experts=2, num_labels=5)
        self.model_tester = SmallModel(config, first_hidden_size=16, num_hidden_states=3)
        self.config_tester = ConfigTester(
            self, ICLMoEConfig, has_text_modality=False, common_properties=["num_channels", "num_experts"]
        )

    def _prepare_config_and_inputs_for_retain_grad_hidden_states_attentions(self):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        config.balanced_heads = False  # they read detached features: their logits have no gradient to hidden states
        return config, inputs


class SNNLMoECommonTest(ImageClassifierTests, unittest.TestCase):
    all_model_classes = (SNNLMoEForImageClassification,)

    def setUp(self):
        config = SNNLMoEConfig(image_size=16, hidden_sizes=[4, 8], num_experts=2, depths=[1, 1], num_labels=5)
        self.model_tester = SmallModel(config, first_hidden_size=8, num_hidden_states=3)
        self.config_tester = ConfigTester(
            self, SNNLMoEConfig, has_text_modality=False, common_properties=["num_channels", "num_experts"]
        )
