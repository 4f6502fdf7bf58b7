"""Trained models made ready to predict: fused for torch, or exported for ONNX Runtime."""

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import BaseImageProcessor, PreTrainedModel
from transformers.utils import ModelOutput

from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
Runner = Callable[..., ModelOutput]
NARROWEST = 16
OUTPUTS = ("logits", "expert_logits", "gate_probs", "num_experts_used")


def with_fast_layout(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its convolutions channels last in memory, where they are faster, if all are at least 16 wide.

    Narrower ones corrupt memory in that layout when trained by several threads (torch 2.13 on a CPU).
    """
    widths = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    if min(widths, default=0) < NARROWEST:
        return model
    logger.debug("Convolutions are laid out channels last in memory.")
    return model.to(memory_format=torch.channels_last)


def fuse_for_inference(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself, its batch normalisations folded into the convolutions before them: for prediction alone.

    It computes the same up to rounding, faster, but can be neither trained nor saved any more.
    """
    for module in model.eval().modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
        elif isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                if isinstance(module[i], nn.Conv2d) and isinstance(module[i + 1], nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(module[i], module[i + 1]), nn.Identity()
    return with_fast_layout(model)


def onnx_runner(model: PreTrainedModel, processor: BaseImageProcessor, name: str) -> Runner:
    """The model as ONNX Runtime runs it on the CPU: called as the model is, with `pixel_values`.

    The export is kept in `onnx/model.onnx` of a model's folder for the next time; that of a Hub model is not kept. It answers
    for the label prior of the configuration, and asks every expert.

    Args:
        model: Fused for inference; its early exit is switched off.
        processor: Its image processor, which makes the example image of the export.
        name: The model's folder or Hub id.

    Raises:
        BadInputError: If ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch exports with it)
    except ImportError as error:
        raise BadInputError(
            f"`--backend onnx` needs {error.name}: python -m pip install 'tailmoe[onnx]', or use `--backend torch`."
        ) from None
    if getattr(model.config, "early_exit_threshold", None) is not None:
        model.config.early_exit_threshold = None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(name) if Path(name).is_dir() else Path(temporary)
        path = folder / "onnx" / "model.onnx"
        if not _is_newer(path, folder / "model.safetensors", folder / "config.json"):
            _export(model, processor, path)
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(pixel_values: Tensor) -> ModelOutput:
        values = session.run(names, {"pixel_values": pixel_values.cpu().numpy()})
        return ModelOutput({name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)})

    return run


def _is_newer(path: Path, *sources: Path) -> bool:
    """Whether a file was made of all the sources as they are now."""
    return all(
        each.is_file() and path.is_file() and path.stat().st_mtime_ns >= each.stat().st_mtime_ns for each in sources
    )


class _Tensors(nn.Module):
    """A model that takes and returns plain tensors, as the exporter wants it."""

    def __init__(self, model: PreTrainedModel, names: list[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        output = self.model(pixel_values=pixel_values)
        return tuple(output[name] for name in self.names)


def _export(model: PreTrainedModel, processor: BaseImageProcessor, path: Path) -> None:
    example = processor([Image.new("RGB", (32, 32))] * 2, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(pixel_values=example)
    names = [name for name in OUTPUTS if output.get(name) is not None]
    for library in ("torch.onnx", "onnx_ir", "onnxscript"):
        logging.getLogger(library).setLevel(logging.ERROR)  # a missing torchvision is not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Tensors(model, names),
            (example,),
            input_names=["pixel_values"],
            output_names=names,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    program.save(part)
    part.replace(path)
