"""Predictions of lightly's weighted kNN, and the accuracy of scikit-learn's logistic regression."""

import torch
from file import unit
from lightly.utils.benchmarking.knn import knn_predict
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

CLASSES, DIM = 6, 16


def features(seed, rows):
    """Rows of overlapping classes, with their labels."""
    labels = torch.arange(rows) % CLASSES
    centers = 0.7 * unit(1, CLASSES, DIM)
    return (centers[labels] + unit(seed, rows, DIM)).float(), labels


def fill(file):
    (bank, bank_labels), (test, test_labels) = features(2, 330), features(3, 121)
    inputs = {"bank": bank, "bank_labels": bank_labels, "test": test, "test_labels": test_labels}
    share = lambda predicted: (predicted == test_labels).double().mean().item()  # noqa: E731
    for k, temperature in [(15, 0.07), (120, 0.1)]:
        vote = lambda dtype: knn_predict(  # noqa: E731
            normalize(test.to(dtype), dim=1), normalize(bank.to(dtype), dim=1).T, bank_labels, CLASSES, k, temperature
        )[:, 0].contiguous()
        predicted = vote(torch.float64)
        assert predicted.equal(vote(torch.float32)), "a vote so close that rounding decides it"
        settings = {"k": k, "temperature": temperature, "classes": CLASSES, "top1": share(predicted)}
        file.add(f"knn_{k}", settings, in_=inputs, out_predicted=predicted)
    probe = LogisticRegression(C=1.0, tol=1e-8, max_iter=10000).fit(bank.double().numpy(), bank_labels.numpy())
    settings = {
        "classes": CLASSES,
        "reference": "multinomial logistic regression minimizing 1/2 |W|^2 + sum of cross-entropies, bias not "
        "penalized, features as given",
        "top1": share(torch.from_numpy(probe.predict(test.double().numpy()))),
    }
    file.add("linear_probe", settings, in_=inputs)
