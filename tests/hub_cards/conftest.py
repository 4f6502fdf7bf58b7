import copy

import pytest

from tailmoe.training.study import summarise


def made_up_results(name, title, accuracy):
    """Results of a run with made-up numbers, in the shape of `results.json`."""
    return {
        "name": name,
        "title": title,
        "description": f"The description of {name}.",
        "model_type": "icl_moe",
        "num_parameters": 312_345,
        "config": {"hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "num_experts": 2, "balanced_heads": True},
        "dataset": {
            "name": "fashion_mnist_lt",
            "imbalance_factor": 125.0,
            "selection": "first",
            "class_counts": [1000, 50, 8],
            "label_names": ["Coat", "T-shirt|top", "Bag"],
            "num_train": 1058,
            "num_test": 300,
        },
        "metrics": {
            "accuracy": accuracy,
            "balanced_accuracy": accuracy + 0.0012,
            "many_accuracy": accuracy + 0.1822,
            "medium_accuracy": accuracy + 0.0433,
            "few_accuracy": accuracy - 0.2244,
            "ece": accuracy / 7,
            "per_class_accuracy": [accuracy + 0.1822, accuracy + 0.0433, accuracy - 0.2244],
            "expert_accuracy": [accuracy - 0.0155, accuracy - 0.0266],
            "confusion_matrix": [[90, 10, 0], [20, 70, 10], [30, 30, 40]],
        },
        "recipe": {
            "title": title,
            "description": f"The description of {name}.",
            "model": {"model_type": "icl_moe", "hidden_sizes": [16, 32, 64]},
            "data": {"name": "fashion_mnist_lt"},
            "training": {"learning_rate": 0.1},
            "objective": {"type": "icl"},
            "baseline": None,
        },
        "baseline": None,
        "seed": 4,
        "train_seconds": 51.2,
        "precision": "float32",
        "peak_memory_gb": 1.1,
        "command": "tailmoe train quickstart",
        "commit": "abc123",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "hardware": {"cpu": "Some CPU", "cores": 2, "accelerator": None},
        "date": "2026-11-23",
    }


@pytest.fixture
def results():
    """A run of ICL-MoE and its baseline."""
    run, baseline = (
        made_up_results("quickstart", "ICL-MoE", 0.7123),
        made_up_results("quickstart-baseline", "cross-entropy", 0.6234),
    )
    baseline["config"] |= {"num_experts": 1, "balanced_heads": False}
    baseline["recipe"]["objective"] = None
    baseline["metrics"]["expert_accuracy"] = [0.6234]
    baseline |= {"num_parameters": 98_765, "train_seconds": 33.3}
    return run | {"baseline": baseline}


@pytest.fixture
def snnl_results(results):
    """A run of SNNL-MoE and its baseline."""
    run = copy.deepcopy(results)
    for part, weight in ((run, 0.1), (run["baseline"], 0.0)):
        part |= {"model_type": "snnl_moe"}
        part["config"]["num_experts"] = 4
        part["recipe"]["objective"] = {"type": "snnl", "snnl_weight": weight}
        part["metrics"] |= {
            "expert_specialization_entropy": 0.4561 + weight,
            "gate_load_balance": 0.9172 - weight,
            "pairwise_embedding_similarity": -0.0383 - weight,
            "expert_similarity_matrix": [[1.0, 0.0], [0.0, 1.0]],
        }
    return run


@pytest.fixture
def study(results):
    """A study of three seeds, as `tailmoe.training.study.summarise` makes it."""
    baseline = results["baseline"]
    runs = [results | {"seed": seed} for seed in (0, 1, 2)]
    for run, accuracy in zip(runs, (0.71, 0.72, 0.745), strict=True):
        run["metrics"] = run["metrics"] | {"accuracy": accuracy, "medium_accuracy": None}
        run["baseline"] = baseline | {"seed": run["seed"], "train_seconds": None}
    return summarise(runs) | {"command": "tailmoe study quickstart"}


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
    return {
        "device": "cpu",
        "limits": {"float32 matrix product": {"unit": "GFLOP/s", "median": 180.2, "quartiles": [180, 181]}},
        "figures": [crop, step],
        "memory": None,
        "command": "tailmoe benchmark",
        "commit": "0123456789abcdef",
        "versions": {"torch": "2.13.0"},
        "hardware": {"cpu": "Some CPU", "cores": 2, "accelerator": "Some GPU"},
        "date": "2026-11-23",
    }
