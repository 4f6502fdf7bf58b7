"""Metrics and predictions as lines of plain text."""

from tailmoe.training.shot_groups import ShotBounds

SHOWN_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "many_accuracy": "many-shot (> {many_above} training images)",
    "medium_accuracy": "medium-shot ({few_below} to {many_above})",
    "few_accuracy": "few-shot (< {few_below})",
    "ece": "expected calibration error",
}
SHOWN_SCALARS = {
    "expert_specialization_entropy": "expert specialization entropy",
    "gate_load_balance": "gate load balance",
    "pairwise_embedding_similarity": "pairwise embedding similarity",
}


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal; a dash for what was not measured."""
    return "—" if value is None else f"{100 * value:.1f} %"


def metrics_lines(metrics: dict) -> list[str]:
    """One line per metric, as `tailmoe evaluate` shows them."""
    bounds = ShotBounds.of_results(metrics)._asdict()
    rows = [(label.format(**bounds), percent(metrics[name])) for name, label in SHOWN_METRICS.items()]
    rows += [(f"expert {index + 1}", percent(value)) for index, value in enumerate(metrics.get("expert_accuracy", []))]
    rows += [(label, f"{metrics[name]:.3f}") for name, label in SHOWN_SCALARS.items() if name in metrics]
    if (saved := metrics.get("early_exit")) is not None:
        rows += [
            (f"asked {n} expert{'s' if n > 1 else ''}", percent(share))
            for n, share in enumerate(saved["image_shares"], start=1)
        ]
        rows += [("experts asked, mean", f"{saved['mean_experts']:.2f}")]
        rows += [("operations (FLOPs) saved", percent(saved["flops_saved"]))]
    return [f"{label:<36}{value:>8}" for label, value in rows]


def early_exit_table(curve: dict) -> list[str]:
    """One line for each threshold of `early_exit_curve`."""
    lines = [f"{'threshold':>9}{'accuracy':>10}{'few-shot':>10}{'experts':>9}{'FLOPs saved':>13}"]
    for point in [*curve["points"], curve["without"]]:
        accuracies = f"{percent(point['accuracy']):>10}{percent(point['few_accuracy']):>10}"
        saved = point.get("early_exit")
        lines.append(
            f"{'none':>9}{accuracies}"
            if saved is None
            else f"{saved['threshold']:>9g}{accuracies}{saved['mean_experts']:>9.2f}{percent(saved['flops_saved']):>13}"
        )
    return lines


def prediction_lines(prediction: dict) -> list[str]:
    """The view of one image, as `tailmoe predict` shows it."""
    lines = [prediction["path"]]
    for label in prediction["labels"]:
        images = label["training_images"]
        seen = "" if images is None else f"   {images} training images"
        lines.append(f"  {percent(label['probability']):>8}  {label['label']}{seen}")
    gates = prediction["gate_probs"] or [None] * len(prediction["experts"])
    for index, (expert, gate) in enumerate(zip(prediction["experts"], gates, strict=True)):
        view = ", ".join(f"{label['label']} {percent(label['probability'])}" for label in expert)
        weight = "" if gate is None else f" (gate {percent(gate)})"
        lines.append(f"  expert {index + 1}{weight}: {view}")
    return lines
