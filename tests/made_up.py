"""Results with made-up numbers."""

from dataclasses import replace

from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.results.results import DataDescription, RunResults, StudyResults
from tailmoe.training.results.scores import Metrics

CLASSES = ("Coat", "T-shirt|top", "Bag")


def made_up_metrics(accuracy, **changes):
    per_class = [accuracy + 0.1822, accuracy + 0.0433, accuracy - 0.2244]
    metrics = Metrics(
        accuracy=accuracy,
        balanced_accuracy=accuracy + 0.0012,
        many_accuracy=per_class[0],
        medium_accuracy=per_class[1],
        few_accuracy=per_class[2],
        ece=accuracy / 7,
        per_class_accuracy=per_class,
        expert_accuracy=[accuracy - 0.0155, accuracy - 0.0266],
        confusion_matrix=["0:90 1:10", "0:20 1:70 2:10", "0:30 1:30 2:40"],
    )
    return replace(metrics, **changes)


def made_up_run(title="ICL-MoE", name="quickstart", class_counts=(1000, 50, 8), label_names=CLASSES, **changes):
    """A run of three classes, of which one is few-shot."""
    description = f"The description of {name}."
    run = RunResults(
        name=name,
        title=title,
        description=description,
        model_type="icl_moe",
        num_parameters=312_345,
        config={"hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "num_experts": 2, "balanced_heads": True},
        dataset=DataDescription(
            name="fashion_mnist_lt",
            imbalance_factor=max(class_counts) / min(class_counts),
            selection="first",
            class_counts=list(class_counts),
            label_names=list(label_names),
            shot_bounds=ShotBounds(),
            num_train=sum(class_counts),
            num_test=300,
        ),
        metrics=made_up_metrics(0.7123),
        recipe={
            "title": title,
            "description": description,
            "model": {"model_type": "icl_moe", "hidden_sizes": [16, 32, 64]},
            "data": {"name": "fashion_mnist_lt"},
            "training": {"learning_rate": 0.1},
            "objective": {"type": "icl"},
            "baseline": None,
        },
        baseline=None,
        seed=4,
        train_seconds=51.2,
        precision="float32",
        peak_memory_gb=1.1,
        license="apache-2.0",
        command="tailmoe train quickstart",
        commit="abc123",
        versions={"torch": "2.13.0", "numpy": "2.4.6"},
        hardware={"cpu": "Some CPU", "cores": 2, "accelerator": None},
        date="2026-11-23",
    )
    return replace(run, **changes)


def made_up_study(*runs):
    return StudyResults.of(runs, "tailmoe study quickstart")
