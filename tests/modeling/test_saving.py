"""Saved models load anywhere: in-process, without tailmoe, through pipelines, and as ONNX."""

import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageClassification, Trainer, TrainingArguments, pipeline

CODE = {
    "icl_moe": {"configuration_icl_moe.py", "early_exit.py", "modeling_icl_moe.py"},
    "snnl_moe": {"configuration_snnl_moe.py", "modeling_snnl_moe.py"},
}
SHARED = {
    "backbone.py",
    "backbone_config.py",
    "backbone_features.py",
    "backbone_passes.py",
    "configuration_tailmoe.py",
    "grad_cam.py",
    "image_loading.py",
    "image_processing_tailmoe.py",
    "label_prior.py",
    "layers.py",
    "modeling_tailmoe.py",
    "validation.py",
}
WEIGHTS = {"config.json", "model.safetensors", "preprocessor_config.json"}
ELSEWHERE = """
import json, sys
sys.modules["tailmoe"] = None  # as if it were not installed
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
folder = sys.argv[1]
file = folder + "/image.png"
model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
logits = model(**processor(file, return_tensors="pt")).logits
classifier = pipeline("image-classification", model=folder, trust_remote_code=True)
answers = classifier(classifier.image_processor.fetch_images(file))
print(json.dumps({"module": type(model).__module__, "logits": logits[0].tolist(), "answers": answers}))
"""


@pytest.fixture
def saved(make_model, processor, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return model, tmp_path


def test_a_saved_folder_holds_weights_and_the_code_that_reads_them_and_nothing_else(saved):
    model, folder = saved
    assert {path.name for path in folder.iterdir()} == WEIGHTS | SHARED | CODE[model.config.model_type]


def test_a_loaded_model_gives_the_same_logits_through_the_auto_classes(saved, images):
    model, folder = saved
    loaded = AutoModelForImageClassification.from_pretrained(folder)
    assert type(loaded) is type(model)
    assert type(AutoConfig.from_pretrained(folder)) is type(model.config)
    assert torch.equal(loaded(images).logits, model(images).logits)
    for name, buffer in model.named_buffers():
        assert torch.equal(dict(loaded.named_buffers())[name], buffer), name


def test_a_pipeline_answers_with_the_models_labels_and_probabilities(saved, processor):
    model, folder = saved
    image = Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28))
    answers = pipeline("image-classification", model=str(folder))(image)
    probabilities = model(**processor(image, return_tensors="pt")).logits[0].softmax(-1)
    assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(
        {model.config.id2label[index]: float(p) for index, p in enumerate(probabilities)}
    )


def test_a_saved_folder_loads_where_tailmoe_is_not_installed(saved, processor, tmp_path_factory):
    model, folder = saved
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28, 2), dtype=np.uint8), "LA")
    image.save(folder / "image.png")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = os.environ | {"HF_HOME": str(elsewhere), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder)], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["module"].startswith("transformers_modules.")
    opaque = Image.composite(image.getchannel(0), Image.new("L", image.size, 255), image.getchannel(1))
    logits = model(**processor(opaque, return_tensors="pt")).logits[0]
    assert answer["logits"] == pytest.approx(logits.tolist(), abs=1e-2)
    scores = {each["label"]: each["score"] for each in answer["answers"]}
    probabilities = dict(zip(model.config.label2id, logits.softmax(-1).tolist(), strict=True))
    assert scores == pytest.approx(probabilities, abs=1e-2), "transparency is laid over white"


def test_onnx_export_gives_the_same_logits_for_any_batch(make_model, images, tmp_path):
    class Logits(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return self.model(pixel_values).logits

    model, path = make_model(), str(tmp_path / "model.onnx")
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.onnx.export(Logits(model), (images,), path, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    session = onnxruntime.InferenceSession(path)
    for batch in (images, torch.randn(7, 1, 28, 28)):
        (logits,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        np.testing.assert_allclose(logits, model(batch).logits.detach().numpy(), atol=1e-5)


class Squares(torch.utils.data.Dataset):
    """Images of one bright square, whose place is the label."""

    def __init__(self, size):
        self.labels = torch.arange(size) % 3
        self.images = 0.1 * torch.randn(size, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        for image, label in zip(self.images, self.labels, strict=True):
            image[:, 9 * label : 9 * label + 8, 9 * label : 9 * label + 8] += 2

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def train(model, folder, **changes):
    options = {"per_device_train_batch_size": 12, "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 0.0}
    options |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "epoch"}
    options |= {"lr_scheduler_type": "constant"}
    trainer = Trainer(
        model, TrainingArguments(output_dir=str(folder), **(options | changes)), train_dataset=Squares(48)
    )
    trainer.train()
    return trainer


def test_the_plain_trainer_of_transformers_trains_and_evaluates(make_model, tmp_path):
    trainer = train(make_model(), tmp_path, num_train_epochs=40)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    trainer.eval_dataset = Squares(12)
    assert trainer.evaluate()["eval_loss"] > 0


def test_gradient_accumulation_in_the_plain_trainer_equals_the_large_batch(make_model, tmp_path):
    """Batch normalisation aside, four batches of 12 are one of 48; a loss scaled wrongly would be off by 4."""

    def updated(**changes):
        torch.manual_seed(0)
        model = make_model()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True, module=module: module  # keeps the running statistics
                module.eval = module.train
                module.training = False
        train(model, tmp_path, max_steps=1, weight_decay=0.0, **changes)
        return model.state_dict()

    parts, whole = updated(gradient_accumulation_steps=4), updated(per_device_train_batch_size=48)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5, msg=name)
