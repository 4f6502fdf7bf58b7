"""Whether bfloat16 is the faster precision on this machine."""

import torch


def fast_bfloat16(use_cpu: bool) -> tuple[bool, str]:
    """Whether training in bfloat16 is faster than in float32, and the reason in words.

    A CPU without instructions for it emulates them, many times slower than float32.

    Args:
        use_cpu: Training is on the CPU, whatever accelerators there are.
    """
    if not use_cpu and torch.cuda.is_available():
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return has, f"{torch.cuda.get_device_name()} {'has' if has else 'lacks'} bfloat16"
    if not use_cpu and torch.accelerator.is_available():
        return False, "only CUDA devices and CPUs are looked at"
    capabilities = torch.cpu.get_capabilities()
    for name in ("avx512_bf16", "amx_bf16"):
        if capabilities.get(name):
            return True, f"this CPU has {name.upper()}"
    return False, "this CPU has neither AVX512_BF16 nor AMX"
