"""bfloat16 by itself: where the hardware has it, said and recorded."""

import pytest
import torch

from tailmoe.training.trainer.arguments import LongTailTrainingArguments
from tailmoe.training.trainer.precision import fast_bfloat16


@pytest.mark.parametrize(
    ("capabilities", "fast", "reason"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True, "this CPU has AVX512_BF16"),
        ({"amx_bf16": True}, True, "this CPU has AMX_BF16"),
        ({"avx2": True, "avx512_bf16": False}, False, "this CPU has neither AVX512_BF16 nor AMX"),
        ({}, False, "this CPU has neither AVX512_BF16 nor AMX"),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_with_instructions_for_it(monkeypatch, tmp_path, capabilities, fast, reason):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fast_bfloat16(use_cpu=True) == (fast, reason)
    args = LongTailTrainingArguments(str(tmp_path), bf16="auto", use_cpu=True)
    assert (args.bf16, args.precision) == (fast, "bfloat16" if fast else "float32")
    assert args.precision_reason == reason


@pytest.mark.parametrize("has", [True, False])
def test_auto_asks_the_gpu_where_there_is_one(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has or including_emulation)
    assert fast_bfloat16(use_cpu=False) == (has, f"Some GPU {'has' if has else 'lacks'} bfloat16")


@pytest.mark.parametrize("value", ["yes", "Auto", 1, None])
def test_another_word_for_bf16_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=f"`bf16` must be true, false or auto, got {value}"):
        LongTailTrainingArguments(str(tmp_path), bf16=value)


def test_losses_and_the_state_of_the_objective_stay_in_single_precision_in_a_bfloat16_run(make_trainer, icl):
    trainer = make_trainer(*icl, bf16=True, max_steps=2, save_strategy="no")
    seen = {}
    forward = trainer.objective.forward

    def look(outputs, *args):
        seen["features"] = outputs.expert_features.dtype
        terms = forward(outputs, *args)
        seen.update({name: term.dtype for name, term in terms.items()})
        return terms

    trainer.objective.forward = look
    trainer.train()
    assert set(seen.values()) == {torch.float32}
    assert {
        buffer.dtype for name, buffer in trainer.objective.named_buffers() if name in ("prototypes", "confusion")
    } == {torch.float32}


def test_a_run_that_goes_on_in_another_precision_tells_both(make_trainer, icl, stop_at, caplog):
    make_trainer(*icl, callbacks=[stop_at(3)], max_steps=6).train()
    trainer = make_trainer(*icl, bf16=True, max_steps=6)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.precision == "float32, bfloat16"
    assert "written in float32, training goes on in bfloat16" in caplog.text
    assert trainer.train_seconds > 0
