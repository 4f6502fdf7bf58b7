"""Several processes: the losses, gradients and state of one process on the whole batch; runs that start, stop, resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer.checkpoints import check_processes

IMAGES_EACH = 6
SETTINGS = {
    "icl": ("icl", {}),
    "icl, competition for each sample": ("icl", {"competition": "sample"}),
    "icl, diversity of deviations": ("icl", {"diversity_of": "deviations"}),
    "icl, contrast of class means": ("icl", {"contrast_anchor": "class_mean"}),
    "snnl": ("snnl", {}),
    "snnl, learned temperature": ("snnl", {"temperature_mode": "learned"}),
}
# run by each process, and alone with a world of 1: terms, gradients and state after two steps, in float64
PROGRAM = """
import json, sys
import torch
from accelerate import PartialState
from torch.nn.parallel import DistributedDataParallel
from tailmoe.modeling import *
from tailmoe.training.objectives import ICLObjective, SNNLObjective

settings, images_each, total, folder = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
processes = PartialState(cpu=True, backend="gloo") if total > images_each else PartialState(cpu=True)
images = torch.randn(total, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
labels = torch.randint(5, (total,), generator=torch.Generator().manual_seed(2))
share = total // processes.num_processes
own = slice(share * processes.process_index, share * (processes.process_index + 1))
found = {}
for name, (kind, options) in settings.items():
    torch.manual_seed(0)
    common = {"num_labels": 5, "num_channels": 1, "image_size": 16}
    if kind == "icl":
        config = ICLMoEConfig(hidden_sizes=[4, 8, 8], depths=[1, 1, 1], class_counts=[20, 10, 5, 5, 2], **common)
        model = ICLMoEForImageClassification(config)
        objective = ICLObjective(config, diversity_until=1.0, contrast_from=0.0, **options)
    else:
        config = SNNLMoEConfig(hidden_sizes=[4, 8], depths=[1, 1], **common)
        model, objective = SNNLMoEForImageClassification(config), SNNLObjective(config, **options)
    model, objective = model.double().eval(), objective.double()  # batch normalisation is each process's own
    run = DistributedDataParallel(model) if processes.num_processes > 1 else model
    for _ in range(2):
        model.zero_grad()
        objective.zero_grad()
        outputs = run(images[own], output_hidden_states=True)
        terms = objective(outputs, labels[own], 0.5)
        sum(terms.values()).backward()
        objective.update_state(outputs, labels[own])
    parameters = [*model.named_parameters(), *objective.named_parameters()]
    found |= {f"{name}: gradient of {key}": weight.grad for key, weight in parameters if weight.grad is not None}
    found |= {f"{name}: state {key}": value.clone() for key, value in objective.named_buffers()}
torch.save(found, f"{folder}/{processes.num_processes}-{processes.process_index}.pt")
"""


def launch(processes, *arguments, **kwargs):
    """The arguments run by so many processes that know of each other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )


def finished(process):
    output, _ = process.communicate(timeout=180)
    return process.returncode, output


@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_gradients_and_state_are_those_of_one_process_with_the_whole_batch(processes, tmp_path):
    total = IMAGES_EACH * processes
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    code, output = finished(
        launch(processes, str(program), json.dumps(SETTINGS), str(IMAGES_EACH), str(total), str(tmp_path))
    )
    assert code == 0, output
    # as large a batch, so that nothing is gathered
    alone = [sys.executable, str(program), json.dumps(SETTINGS), str(total), str(total), str(tmp_path)]
    subprocess.run(alone, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    expected = torch.load(tmp_path / "1-0.pt")
    assert any(value.any() for name, value in expected.items() if name.endswith("state prototypes"))
    for index in range(processes):
        found = torch.load(tmp_path / f"{processes}-{index}.pt")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=f"{name} of process {index}")


def test_another_number_of_processes_is_refused_on_resume(tmp_path):
    for index in range(2):
        (tmp_path / f"rng_state_{index}.pth").touch()
    check_processes(tmp_path, 2)
    with pytest.raises(BadInputError, match=r"was written by 2 processes, now there is 1.* Resume with 2"):
        check_processes(tmp_path, 1)


def tailmoe_train(folder, *arguments):
    program = "import sys; from tailmoe.training.cli import main; sys.exit(main())"
    values = ["training.num_train_epochs=4", "model.hidden_sizes=[4,4,8]", "training.per_device_train_batch_size=256"]
    overrides = [word for value in values for word in ("--set", value)]
    script = folder.parent / "tailmoe_command.py"
    script.write_text(program)
    return launch(2, str(script), "train", "quickstart", "--output-dir", str(folder), *overrides, *arguments)


@pytest.mark.slow
def test_a_run_of_two_processes_is_written_once_and_resumes_after_one_of_them_is_killed(tmp_path):
    code, output = finished(tailmoe_train(tmp_path / "whole"))
    assert code == 0, output
    assert output.count("Training quickstart ") == 1, "each process tells all"
    assert output.count("The run is in") == 1
    process = tailmoe_train(tmp_path / "killed")
    while not list((tmp_path / "killed").glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.2)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(workers.stdout.split()[-1]), signal.SIGKILL)
    code, output = finished(process)
    assert code != 0
    code, output = finished(tailmoe_train(tmp_path / "killed", "--resume"))
    assert code == 0, output
    whole, killed = (load_file(Path(tmp_path / name / "model.safetensors")) for name in ("whole", "killed"))
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name
    results = json.loads((tmp_path / "killed" / "results.json").read_text())
    assert (
        results["metrics"]["accuracy"]
        == json.loads((tmp_path / "whole" / "results.json").read_text())["metrics"]["accuracy"]
    )
