"""Each metric: by hand, against naive loops, in its limits, and on wrong input."""

import json
import math

import numpy as np
import pytest
import torch

from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.metrics import (
    accuracy_metrics,
    classification_metrics,
    expected_calibration_error,
    expert_agreement,
    expert_specialization_entropy,
    gate_load_balance,
    pairwise_embedding_similarity,
    reliability,
)

COUNTS = [500, 101, 100, 20, 19]  # many, many, medium, medium, few


def scores(predictions, num_classes=5):
    return 10.0 * np.eye(num_classes)[predictions]


def random_split(images=200, classes=5, experts=3):
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=images)
    logits = generator.normal(size=(images, classes)) + 2 * np.eye(classes)[labels]
    return logits, labels, generator.normal(size=(images, experts, classes))


def probabilities(logits):
    return torch.tensor(logits).softmax(dim=-1).numpy()


# accuracies


def test_accuracies_of_five_images_by_hand():
    metrics = classification_metrics(scores([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 4]), COUNTS)
    assert metrics["accuracy"] == 0.6
    assert metrics["per_class_accuracy"] == [1.0, 0.5, 1.0, None, 0.0]
    assert metrics["balanced_accuracy"] == 0.625
    assert (metrics["many_accuracy"], metrics["medium_accuracy"], metrics["few_accuracy"]) == (0.75, 1.0, 0.0)
    assert metrics["confusion_matrix"] == ["0:1", "0:1 1:1", "2:1", "", "2:1"]


def test_a_group_averages_over_its_classes_not_over_its_images():
    metrics = accuracy_metrics([0, 0, 0, 0], [0, 0, 0, 1], 5, COUNTS)
    assert metrics["accuracy"] == 0.75
    assert metrics["many_accuracy"] == 0.5


def test_groups_agree_with_the_mean_over_images_when_the_test_set_is_balanced():
    labels = np.repeat(np.arange(5), 40)
    predictions = np.where(np.random.default_rng(0).random(200) < 0.6, labels, 0)
    metrics = accuracy_metrics(predictions, labels, 5, COUNTS)
    many = np.isin(labels, [0, 1])
    assert metrics["many_accuracy"] == pytest.approx((predictions == labels)[many].mean())
    assert metrics["balanced_accuracy"] == pytest.approx(metrics["accuracy"])


def test_groups_without_classes_and_unknown_groups_are_none_and_the_result_is_json():
    logits, labels, _ = random_split()
    metrics = classification_metrics(logits, labels, [500] * 5)
    assert metrics["medium_accuracy"] is None
    assert metrics["few_accuracy"] is None
    assert classification_metrics(logits, labels)["many_accuracy"] is None
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_accuracy_of_each_expert_equals_a_loop():
    logits, labels, expert_logits = random_split()
    expected = []
    for m in range(3):
        right = [expert_logits[i, m].argmax() == labels[i] for i in range(len(labels))]
        expected.append(sum(right) / len(right))
    metrics = classification_metrics(logits, labels, COUNTS, expert_logits)
    assert metrics["expert_accuracy"] == pytest.approx(expected)
    assert "expert_accuracy" not in classification_metrics(logits, labels, COUNTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_that_require_gradients_give_the_same_as_arrays(dtype):
    logits, labels, expert_logits = random_split()
    tensors = [torch.tensor(values).to(dtype).requires_grad_() for values in (logits, expert_logits)]
    arrays = [tensor.detach().double().numpy() for tensor in tensors]
    from_tensors = classification_metrics(tensors[0], torch.tensor(labels), COUNTS, tensors[1])
    assert from_tensors == classification_metrics(arrays[0], labels, COUNTS, arrays[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((4, 5, 1))}, "shapes"),
        ({"logits": np.zeros((3, 5))}, "shapes"),
        ({"logits": np.zeros((0, 5)), "labels": np.zeros(0, dtype=int)}, "at least one"),
        ({"labels": np.array([0, 1, 2, 5])}, "0 to 4, got 0 to 5"),
        ({"labels": np.array([0, 1, 2, -1])}, "got -1"),
        ({"labels": np.array([0.0, 1.0, 2.0, 3.0])}, "integers"),
        ({"logits": np.full((4, 5), np.nan)}, "finite"),
        ({"class_counts": [1, 2]}, "class_counts"),
        ({"expert_logits": np.zeros((4, 5))}, "expert_logits"),
        ({"expert_logits": np.zeros((4, 2, 6))}, "expert_logits"),
        ({"expert_logits": np.full((4, 2, 5), np.inf)}, "finite"),
    ],
)
def test_wrong_input_is_named(change, message):
    good = {"logits": np.zeros((4, 5)), "labels": np.array([0, 1, 2, 3]), "class_counts": COUNTS}
    with pytest.raises(BadInputError, match=message):
        classification_metrics(**(good | change))


# calibration


def test_calibration_error_by_hand():
    # confidences 0.9 and 0.9 (one right) share a bin: |0.5 - 0.9|; 0.6 (right) has its own: |1 - 0.6|
    rows = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    assert expected_calibration_error(rows, np.array([0, 1, 0])) == pytest.approx((2 * 0.4 + 0.4) / 3)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_calibration_error_equals_a_loop_over_bins(num_bins):
    logits, labels, _ = random_split()
    rows = probabilities(logits)
    error = 0.0
    for b in range(num_bins):
        inside = [i for i in range(len(rows)) if b / num_bins < rows[i].max() <= (b + 1) / num_bins]
        if inside:
            accuracy = sum(rows[i].argmax() == labels[i] for i in inside) / len(inside)
            confidence = sum(rows[i].max() for i in inside) / len(inside)
            error += len(inside) / len(rows) * abs(accuracy - confidence)
    assert expected_calibration_error(rows, labels, num_bins) == pytest.approx(error)


def test_full_confidence_counts_in_the_last_bin():
    assert expected_calibration_error(np.eye(3), np.array([0, 1, 2])) == 0
    assert expected_calibration_error(np.eye(3), np.array([1, 2, 0])) == 1


def test_a_bin_holds_its_upper_edge_and_not_its_lower_one():
    # with 2 bins, 0.5 is in the first and 0.6 in the second: apart, the errors of the two do not cancel
    rows = np.array([[0.5, 0.5], [0.6, 0.4]])
    assert expected_calibration_error(rows, np.array([0, 1]), num_bins=2) == pytest.approx((0.5 + 0.6) / 2)


def test_probabilities_that_come_true_as_often_as_they_say_have_no_calibration_error():
    rows = np.tile([0.75, 0.25], (8, 1))
    assert expected_calibration_error(rows, np.array([0] * 6 + [1] * 2)) == 0


@pytest.mark.parametrize("rows", [[[2.0, -1.0]], [[0.5, 0.4]], [[np.nan, 1.0]]])
def test_rows_that_are_no_probabilities_are_refused(rows):
    with pytest.raises(BadInputError, match=r"probabilities|finite"):
        expected_calibration_error(np.array(rows), np.array([0]))
    with pytest.raises(BadInputError, match="gate_probs"):
        expert_specialization_entropy(rows)


def test_fewer_than_one_bin_is_refused():
    with pytest.raises(BadInputError, match="num_bins"):
        expected_calibration_error(np.eye(2), np.array([0, 1]), num_bins=0)


# experts


def test_gate_entropy_equals_a_loop():
    gate = probabilities(np.random.default_rng(0).normal(size=(50, 4)))
    entropies = [-sum(p * math.log(p) for p in row) / math.log(4) for row in gate]
    assert expert_specialization_entropy(gate) == pytest.approx(sum(entropies) / 50)
    mean = gate.mean(axis=0)
    assert gate_load_balance(torch.tensor(gate)) == pytest.approx(-sum(p * math.log(p) for p in mean) / math.log(4))


def test_rigid_routing_over_all_experts_has_no_entropy_and_full_balance():
    gate = np.tile(np.eye(4), (3, 1))
    assert expert_specialization_entropy(gate) == 0
    assert gate_load_balance(gate) == pytest.approx(1)


def test_a_uniform_gate_has_entropy_one_and_a_collapsed_one_no_balance():
    assert expert_specialization_entropy(np.full((5, 3), 1 / 3)) == pytest.approx(1)
    assert expert_specialization_entropy(np.full((5, 3), 1 / 3)) <= 1
    assert gate_load_balance(np.eye(3)[[0, 0, 0]]) == 0


def test_one_expert_has_no_entropy():
    assert expert_specialization_entropy(np.ones((5, 1))) == 0
    assert gate_load_balance(np.ones((5, 1))) == 0


@pytest.mark.parametrize("gate", [np.ones(3), np.ones((0, 3)), np.ones((3, 0))])
def test_a_gate_of_wrong_shape_is_refused(gate):
    with pytest.raises(BadInputError, match="shape"):
        gate_load_balance(gate)


def test_similarity_of_experts_equals_a_loop_over_pairs():
    weights = np.random.default_rng(0).normal(size=(4, 3, 2))
    similarity, matrix = pairwise_embedding_similarity(torch.tensor(weights))
    flat = weights.reshape(4, -1)
    pairs = {
        (i, j): flat[i] @ flat[j] / np.sqrt((flat[i] @ flat[i]) * (flat[j] @ flat[j]))
        for i in range(4)
        for j in range(4)
    }
    assert matrix == pytest.approx(np.array([[pairs[i, j] for j in range(4)] for i in range(4)]))
    assert similarity == pytest.approx(np.mean([value for (i, j), value in pairs.items() if i != j]))


def test_similarity_is_one_for_copies_and_minus_one_for_opposites_at_any_scale():
    weights = np.array([[1.0, 2.0], [1.0, 2.0]])
    assert pairwise_embedding_similarity(1e4 * weights)[0] == pytest.approx(1)
    assert pairwise_embedding_similarity(weights * [[1], [-7]])[0] == pytest.approx(-1)


def test_one_expert_and_an_expert_of_zeros_have_similarity_zero():
    assert pairwise_embedding_similarity(np.ones((1, 3)))[0] == 0
    assert pairwise_embedding_similarity(np.array([[0.0, 0.0], [1.0, 1.0]]))[0] == 0


@pytest.mark.parametrize("weights", [np.ones(3), np.ones((0, 3)), np.full((2, 2), np.nan)])
def test_weights_of_wrong_shape_or_not_finite_are_refused(weights):
    with pytest.raises(BadInputError, match="expert_weights"):
        pairwise_embedding_similarity(weights)


def test_reliability_tells_each_bin_of_confidence_and_sums_to_the_calibration_error():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.5, 0.5]])
    bins = reliability(probabilities, [0, 1, 1, 0], num_bins=4)
    assert [each["images"] for each in bins] == [0, 1, 1, 2]
    assert bins[0] == {"images": 0, "confidence": None, "accuracy": None}
    assert bins[3] == {"images": 2, "confidence": pytest.approx(0.925), "accuracy": 0.5}
    assert expected_calibration_error(probabilities, [0, 1, 1, 0], num_bins=4) == pytest.approx(
        (1 * 0.5 + 1 * 0.4 + 2 * 0.425) / 4
    )


def test_agreement_is_the_share_of_images_with_one_label_from_two_experts():
    answers = np.array([[0, 0, 1], [1, 1, 1], [2, 0, 2], [0, 0, 2]])  # (N, M)
    matrix = expert_agreement(np.eye(3)[answers])
    assert matrix.tolist() == [[1, 0.75, 0.5], [0.75, 1, 0.25], [0.5, 0.25, 1]]
