import copy
from dataclasses import replace

import pytest
from made_up import made_up_metrics, made_up_run, made_up_study

from tailmoe.training.benchmark.record import Benchmark


@pytest.fixture
def results():
    """A run of ICL-MoE and its baseline."""
    run = made_up_run()
    run.baseline = made_up_run("cross-entropy", "quickstart-baseline", metrics=made_up_metrics(0.6234))
    run.baseline.config |= {"num_experts": 1, "balanced_heads": False}
    run.baseline.recipe["objective"] = None
    run.baseline.metrics.expert_accuracy = [0.6234]
    run.baseline.num_parameters, run.baseline.train_seconds = 98_765, 33.3
    return run


@pytest.fixture
def snnl_results(results):
    """A run of SNNL-MoE and its baseline."""
    run = copy.deepcopy(results)
    for part, weight in ((run, 0.1), (run.baseline, 0.0)):
        part.model_type = "snnl_moe"
        part.config["num_experts"] = 4
        part.recipe["objective"] = {"type": "snnl", "snnl_weight": weight}
        part.metrics = replace(
            part.metrics,
            expert_specialization_entropy=0.4561 + weight,
            gate_load_balance=0.9172 - weight,
            pairwise_embedding_similarity=-0.0383 - weight,
            expert_similarity_matrix=[[1.0, 0.0], [0.0, 1.0]],
        )
    return run


@pytest.fixture
def study(results):
    """A study of three seeds, that of `results` among them."""
    runs = []
    for seed, accuracy in ((3, 0.71), (4, 0.7123), (5, 0.745)):
        metrics = replace(results.metrics, accuracy=accuracy, medium_accuracy=None)
        baseline = replace(results.baseline, seed=seed, train_seconds=None)
        runs.append(replace(results, seed=seed, metrics=metrics, baseline=baseline))
    return made_up_study(*runs)


@pytest.fixture
def benchmark_record():
    """What `tailmoe benchmark --json` writes: a figure with a naive baseline, and one with a share of the limit."""

    def spread(median, low, high):
        return {"median": median, "quartiles": [low, high], "repeats": 5}

    crop = {"case": "data", "name": "crop", "unit": "images/s", "rate": spread(12345.6, 12000, 12500)}
    crop |= {"naive_baseline": spread(1000, 900, 1100), "ratio": spread(12.3456, 12, 12.5)}
    crop |= {"target": 10.0, "details": {}}
    step = {"case": "train", "name": "step", "unit": "images/s", "rate": spread(95, 90, 99)}
    step |= {"naive_baseline": None, "ratio": None, "target": None, "details": {"share_of_limit": 0.95}}
    return Benchmark(
        device="cpu",
        limits={"float32 matrix product": {"unit": "GFLOP/s", "median": 180.2, "quartiles": [180, 181]}},
        figures=[crop, step],
        command="tailmoe benchmark",
        commit="0123456789abcdef",
        versions={"torch": "2.13.0"},
        hardware={"cpu": "Some CPU", "cores": 2, "accelerator": "Some GPU"},
        date="2026-11-23",
    )
