"""Metrics and predictions as lines of plain text."""

import functools

from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.results.scores import ACCURACIES, EXPERT_METRICS, percent

in_percent = functools.partial(percent, unit=" %")


def metrics_lines(metrics: dict) -> list[str]:
    """One line per metric of `evaluate_model`, as `tailmoe evaluate` shows them."""
    bounds = ShotBounds(**metrics["shot_bounds"])
    groups = {
        "many": f" (> {bounds.many_above} training images)",
        "medium": f" ({bounds.few_below} to {bounds.many_above})",
        "few": f" (< {bounds.few_below})",
    }
    rows = [
        (f"{title}-shot{groups[title]}" if title in groups else name.replace("_", " "), in_percent(metrics[name]))
        for title, name in ACCURACIES.items()
    ]
    rows += [("expected calibration error", in_percent(metrics["ece"]))]
    rows += [
        (f"expert {index + 1}", in_percent(value)) for index, value in enumerate(metrics.get("expert_accuracy", []))
    ]
    rows += [(name.replace("_", " "), f"{metrics[name]:.3f}") for name in EXPERT_METRICS if name in metrics]
    if (saved := metrics.get("early_exit")) is not None:
        rows += [
            (f"asked {n} expert{'s' if n > 1 else ''}", in_percent(share))
            for n, share in enumerate(saved["image_shares"], start=1)
        ]
        rows += [("experts asked, mean", f"{saved['mean_experts']:.2f}")]
        rows += [("operations (FLOPs) saved", in_percent(saved["flops_saved"]))]
    return [f"{label:<36}{value:>8}" for label, value in rows]


def early_exit_table(curve: dict) -> list[str]:
    """One line for each threshold of `early_exit_curve`."""
    lines = [f"{'threshold':>9}{'accuracy':>10}{'few-shot':>10}{'experts':>9}{'FLOPs saved':>13}"]
    for point in [*curve["points"], curve["without"]]:
        accuracies = f"{in_percent(point['accuracy']):>10}{in_percent(point['few_accuracy']):>10}"
        saved = point.get("early_exit")
        lines.append(
            f"{'none':>9}{accuracies}"
            if saved is None
            else f"{saved['threshold']:>9g}{accuracies}{saved['mean_experts']:>9.2f}{in_percent(saved['flops_saved']):>13}"
        )
    return lines


def prediction_lines(prediction: dict) -> list[str]:
    """The view of one image, as `tailmoe predict` shows it."""
    lines = [prediction["path"]]
    for label in prediction["labels"]:
        images = label["training_images"]
        seen = "" if images is None else f"   {images} training images"
        lines.append(f"  {in_percent(label['probability']):>8}  {label['label']}{seen}")
    gates = prediction["gate_probs"] or [None] * len(prediction["experts"])
    for index, (expert, gate) in enumerate(zip(prediction["experts"], gates, strict=True)):
        view = ", ".join(f"{label['label']} {in_percent(label['probability'])}" for label in expert)
        weight = "" if gate is None else f" (gate {in_percent(gate)})"
        lines.append(f"  expert {index + 1}{weight}: {view}")
    return lines
