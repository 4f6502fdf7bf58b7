import pytest
from huggingface_hub.errors import StrictDataclassError

from tailmoe.modeling import ICLMoEConfig, SNNLMoEConfig


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (ICLMoEConfig, {"num_experts": 0}, "`num_experts` must be at least 1, got 0"),
        (ICLMoEConfig, {"logit_scale": 0.0}, "`logit_scale` must be a number above 0, got 0.0"),
        (ICLMoEConfig, {"logit_scale": float("nan")}, "`logit_scale` must be a number above 0, got nan"),
        (ICLMoEConfig, {"logit_scale": float("inf")}, "`logit_scale` must be a number above 0, got inf"),
        (ICLMoEConfig, {"num_labels": 0}, "`num_labels` must be at least 1, got 0"),
        (ICLMoEConfig, {"num_classes": 10}, "no field `num_classes`; did you mean `num_labels`"),
        (SNNLMoEConfig, {"num_labels": 0}, "`num_labels` must be at least 1, got 0"),
        (SNNLMoEConfig, {"in_chans": 1}, "did you mean `num_channels`"),
        (ICLMoEConfig, {"depths": [5, 5]}, r"`hidden_sizes` and `depths` must have one entry per stage"),
        (ICLMoEConfig, {"depths": [5], "hidden_sizes": [16]}, r"at least 2 stage\(s\)"),
        (ICLMoEConfig, {"depths": [5, 0, 5]}, "positive entries"),
        (ICLMoEConfig, {"class_counts": [1, 2, 3]}, "for each of the 2 labels, got"),
        (ICLMoEConfig, {"class_counts": [1, 0]}, "at least 1 training image"),
        (ICLMoEConfig, {"num_expert": 3}, "no field `num_expert`; did you mean `num_experts`"),
        (ICLMoEConfig, {"depth": [1, 1, 1]}, "did you mean `depths`"),
        (SNNLMoEConfig, {"num_experts": 0}, "`num_experts` must be at least 1, got 0"),
        (SNNLMoEConfig, {"expert_hidden_size": 0}, "`expert_hidden_size` must be at least 1, got 0"),
        (SNNLMoEConfig, {"image_size": 4}, "`image_size` must be at least 8, got 4"),
        (SNNLMoEConfig, {"expert_hiden_size": 64}, "did you mean `expert_hidden_size`"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_is_right(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_class(**fields)


@pytest.mark.parametrize("fields", [{"num_experts": "3"}, {"classifier": "mlp"}, {"shallow_fusion": 1.5}])
def test_a_wrong_type_raises(fields):
    with pytest.raises(StrictDataclassError, match=next(iter(fields))):
        ICLMoEConfig(**fields)


@pytest.mark.parametrize("config_class", [ICLMoEConfig, SNNLMoEConfig])
def test_a_configuration_survives_saving(config_class, tmp_path):
    config = config_class(num_experts=5, num_labels=3, class_counts=[3, 2, 1], id2label={0: "a", 1: "b", 2: "c"})
    config.save_pretrained(tmp_path)
    assert config_class.from_pretrained(tmp_path).to_dict() == config.to_dict()
