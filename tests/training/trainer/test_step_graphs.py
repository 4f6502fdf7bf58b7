"""Recorded steps without a GPU: a stand-in runs a recording again instead of launching it."""

import contextlib
import logging
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tailmoe.training.objectives import ICLObjective, SNNLObjective
from tailmoe.training.trainer import step_graphs
from tailmoe.training.trainer.step_graphs import EAGER_STEPS, Recording, StepGraphs, can_record


class Rerun:
    """In place of a `CUDAGraph`: computes the step on the recording's own inputs."""

    def __init__(self, step, inputs, variant, loss):
        self.step, self.inputs, self.variant, self.loss = step, inputs, variant, loss

    def replay(self):
        self.loss.copy_(self.step(dict(self.inputs), self.variant))


def _double(value):
    return torch.float64 if isinstance(value, float) else None


class HostGraphs(StepGraphs):
    """Step graphs on a CPU: all but streams and the recording itself are the real ones."""

    def __init__(self, step, device):
        self.step, self.device = step, device
        self.recordings, self.eager_runs, self.recordable = {}, Counter(), True

    def _on_device(self, inputs):
        """Numbers in double precision, as a step without graphs has them."""
        return {name: torch.as_tensor(value, dtype=_double(value)).clone() for name, value in inputs.items()}

    def _run_eagerly(self, inputs, variant):
        return self.step(inputs, variant)

    def _record(self, inputs, variant):
        loss = torch.zeros(())
        return Recording(inputs, Rerun(self.step, inputs, variant, loss), loss)


class NeverWaits(TorchDispatchMode):
    """Refuses what cannot be recorded: values that the host reads, shapes that depend on values, constants from the host."""

    READ = ("_local_scalar_dense", "is_nonzero", "equal")
    SHAPED = ("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount")
    COPIED = ("lift_fresh", "lift_fresh_copy")

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        assert name not in (*self.READ, *self.SHAPED, *self.COPIED), f"{name} cannot be recorded"
        masks = args[1] if name in ("index", "index_put_") else []
        assert all(mask is None or mask.dtype != torch.bool for mask in masks), (
            f"{name} with a mask cannot be recorded"
        )
        return operation(*args, **(kwargs or {}))


class WatchedGraphs(HostGraphs):
    """Step graphs on a CPU whose every step is one that could be recorded."""

    def _run_eagerly(self, inputs, variant):
        with NeverWaits():
            return super()._run_eagerly(inputs, variant)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: torch.tensor([1.0]),
        lambda x: bool(x[0]),
        lambda x: x.nonzero(),
    ],
)
def test_the_watch_sees_what_waits(wait):
    with pytest.raises(AssertionError, match="cannot be recorded"), NeverWaits():
        wait(torch.ones(3))


@pytest.mark.parametrize(
    "options", [{}, {"competition": "sample", "contrast_anchor": "class_mean"}, {"balanced_heads": "decoupled"}]
)
def test_no_step_of_icl_waits_for_the_device(make_trainer, icl, monkeypatch, options):
    monkeypatch.setattr(step_graphs, "StepGraphs", WatchedGraphs)
    monkeypatch.setattr(step_graphs, "can_record", lambda *_: True)
    model, _ = icl
    objective = ICLObjective(model.config, **options)
    run = trained(make_trainer, (model, objective), num_train_epochs=8, mixup_alpha=0.2)
    assert {terms for terms, _ in run.graphs.eager_runs} >= {objective.active_terms(p) for p in (0.0, 0.3, 0.7, 0.95)}


@pytest.mark.parametrize("mode", ["annealed", "fixed", "learned"])
@pytest.mark.parametrize("at_once", [2**22, 100])
def test_no_step_of_snnl_waits_for_the_device(make_trainer, snnl, monkeypatch, mode, at_once):
    monkeypatch.setattr(step_graphs, "StepGraphs", WatchedGraphs)
    monkeypatch.setattr(step_graphs, "can_record", lambda *_: True)
    monkeypatch.setattr("tailmoe.training.objectives.losses.contrastive.SIMILARITIES_AT_ONCE", at_once)
    objective = SNNLObjective(snnl[0].config, temperature_mode=mode)
    trained(make_trainer, (snnl[0], objective), num_train_epochs=1)


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(step_graphs, "StepGraphs", HostGraphs)
    monkeypatch.setattr(step_graphs, "can_record", lambda *_: True)


def trained(make_trainer, model_and_objective, **changes):
    run = make_trainer(*model_and_objective, cutout_size=4, **changes)
    run.train()
    return run


@pytest.mark.parametrize("changes", [{}, {"mixup_alpha": 0.2, "auto_augment": True}])
def test_recorded_steps_end_where_plain_steps_end(make_trainer, icl, monkeypatch, changes):
    plain = trained(make_trainer, icl, **changes)
    monkeypatch.setattr(step_graphs, "StepGraphs", HostGraphs)
    monkeypatch.setattr(step_graphs, "can_record", lambda *_: True)
    recorded = trained(make_trainer, icl, **changes)
    for ours, theirs in (
        (recorded.model.state_dict(), plain.model.state_dict()),
        (recorded.objective.state_dict(), plain.objective.state_dict()),
    ):
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), name
    logs, plain_logs = ([log for log in run.state.log_history if "loss" in log] for run in (recorded, plain))
    for ours, theirs in zip(logs, plain_logs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_learned_temperature_is_trained_by_recorded_steps_too(make_trainer, snnl, monkeypatch):
    plain = trained(make_trainer, snnl)
    monkeypatch.setattr(step_graphs, "StepGraphs", HostGraphs)
    monkeypatch.setattr(step_graphs, "can_record", lambda *_: True)
    recorded = trained(make_trainer, snnl)
    assert recorded.objective.log_temperature != snnl[1].log_temperature
    assert recorded.objective.log_temperature == plain.objective.log_temperature


def test_each_variant_is_recorded_once_after_its_eager_steps(make_trainer, icl, recorded):
    run = trained(make_trainer, icl, num_train_epochs=20)
    variants = {(terms, shapes[0][0]) for terms, shapes in run.graphs.recordings}
    terms = {terms for terms, _ in variants}
    assert terms == {run.objective.active_terms(progress) for progress in (0.0, 0.3, 0.7, 0.95)}
    assert {size for _, size in variants} <= {32, len(run.train_dataset) % 32}
    assert set(run.graphs.eager_runs.values()) <= {*range(1, EAGER_STEPS + 1)}


def test_a_recording_reads_tensors_and_numbers_anew_each_time():
    graphs = HostGraphs(lambda inputs, variant: inputs["x"].sum() * inputs["rate"], torch.device("cpu"))
    for run in range(6):
        assert graphs({"x": torch.full((2,), float(run)), "rate": 0.5}, "sum") == run
    assert len(graphs.recordings) == 1
    graphs({"x": torch.ones(3), "rate": 0.5}, "sum")
    assert len(graphs.recordings) == 1, "another shape is another variant, not recorded at first"


@pytest.fixture
def cuda(monkeypatch):
    """As much of `torch.cuda` as recording needs; a graph that is replayed counts it."""

    class Stream:
        def __init__(self, device=None):
            self.waits = 0

        def wait_stream(self, other):
            self.waits += 1

    class Graph:
        replays = 0

        def replay(self):
            Graph.replays += 1

    @contextlib.contextmanager
    def recording(graph, pool, stream, capture_error_mode):
        assert isinstance(graph, Graph)
        yield

    current = Stream()
    for name, value in {
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": recording,
        "graph_pool_handle": lambda: (0, 1),
        "current_stream": lambda device: current,
        "stream": lambda stream: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    return Graph


def test_a_recording_keeps_all_its_inputs_whatever_the_step_takes_out_of_them(cuda):
    ran = []

    def step(inputs, variant):
        ran.append(variant)
        return inputs.pop("x").sum() * inputs.pop("rate")

    graphs = StepGraphs(step, torch.device("cpu"))
    for run in range(6):
        graphs({"x": torch.full((2,), float(run)), "rate": run / 10}, "sum")
    assert len(ran) == EAGER_STEPS + 1, "three eager steps and the recording"
    assert cuda.replays == 3
    (recording,) = graphs.recordings.values()
    assert recording.inputs["x"].tolist() == [5.0, 5.0]
    assert recording.inputs["rate"].item() == pytest.approx(0.5)


def test_a_recording_that_fails_leaves_no_gradient_for_the_next_step(make_trainer, icl, monkeypatch):
    class FailsLate(HostGraphs):
        def _record(self, inputs, variant):
            (run,) = self.step.args
            for parameter in run.model.parameters():
                parameter.grad = torch.full_like(parameter, 1e6)
            raise RuntimeError("out of memory")

    plain = trained(make_trainer, icl, num_train_epochs=2)
    monkeypatch.setattr(step_graphs, "StepGraphs", FailsLate)
    monkeypatch.setattr(step_graphs, "can_record", lambda *_: True)
    failed = trained(make_trainer, icl, num_train_epochs=2)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(failed.model.state_dict()[name], value), name


def test_what_cannot_be_recorded_runs_eagerly_and_one_line_tells(caplog):
    class Refuses(HostGraphs):
        def _record(self, inputs, variant):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs = Refuses(lambda inputs, variant: inputs["x"].sum(), torch.device("cpu"))
    with caplog.at_level(logging.WARNING, step_graphs.__name__):
        losses = [graphs({"x": torch.ones(2)}, "sum").item() for _ in range(8)]
    assert losses == [2.0] * 8
    assert [record.getMessage() for record in caplog.records] == [
        "Training without CUDA graphs: operation not permitted when stream is capturing"
    ]


class CudaArguments:
    """Arguments as they are on a machine with one GPU."""

    device = torch.device("cuda")
    optim, gradient_accumulation_steps, max_grad_norm, fp16, world_size, n_gpu = "sgd", 1, 0.0, False, 1, 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"optim": "adamw_torch"}, "`optim` is adamw_torch"),
        ({"gradient_accumulation_steps": 2}, "`gradient_accumulation_steps`"),
        ({"max_grad_norm": 1.0}, "`max_grad_norm`"),
        ({"fp16": True}, "float16"),
        ({"world_size": 2}, "several processes"),
    ],
)
def test_arguments_that_rule_out_graphs_are_told(changes, reason, caplog):
    args = CudaArguments()
    assert can_record(args)
    for name, value in changes.items():
        setattr(args, name, value)
    with caplog.at_level(logging.INFO, step_graphs.__name__):
        assert not can_record(args)
    assert reason in caplog.text


def test_a_cpu_has_no_graphs_and_says_nothing_of_them(make_trainer, icl, caplog):
    with caplog.at_level(logging.INFO):
        run = make_trainer(*icl, num_train_epochs=1)
        run.train()
    assert run.graphs is None
    assert "CUDA" not in caplog.text
