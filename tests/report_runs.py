"""Work directories written by hand, for the tests of reports."""

import dataclasses
import json

import numpy as np
from PIL import Image

from kdkeras import evaluation, recipe


def logits_for(said, classes):
    """Logits whose top classes are `said`, more or less surely."""
    random = np.random.default_rng(2)
    logits = random.normal(size=(len(said), classes)).astype("float32")
    logits[np.arange(len(said)), said] = logits.max(axis=-1) + random.uniform(0.2, 5.0, len(said))
    return logits


def write_run(
    folder, labels, said, *, classes=None, first_id=1000, logs=True, logits=None, **changed
):
    """A finished run.

    Args:
        folder: Where.
        labels: Integer array `(n,)`.
        said: Dict from roles to the top classes, `(n,)`.
        classes: Class names.
        first_id: The first test image's id.
        logs: Whether to write logs.
        logits: Dict from roles to logits; made up from `said` unless given.
        changed: Settings of the recipe.
    """
    count = int(max(labels)) + 1 if classes is None else len(classes)
    classes = classes or [f"class {i}" for i in range(count)]
    logits = logits or {role: logits_for(of_role, count) for role, of_role in said.items()}
    model = {"name": "net", "parameters": 1234, "macs": 5_600_000}
    training = {"epochs": 3, "best_epoch": 2, "best": {}, "last": {}, "seconds": 75.0}
    settings = recipe.Recipe(**{"dataset": "digits", "workdir": str(folder), **changed})
    results = {
        "format": 1,
        "dataset": {"name": settings.dataset, "class_names": list(classes)},
        "models": {
            role: {
                **model,
                "training": training,
                "test": evaluation.scores(
                    labels, logits[role], logits.get("teacher") if role != "teacher" else None
                ),
            }
            for role in logits
        },
        "exports": {},
        "seconds": {"student": 75.0, "all": 300.0},
        "environment": {"python": "3.11"},
        "distillation": {"method": "hinton", "terms": [{"loss": "soft", "temperature": 4.0}]},
        "files": {"export/student.tflite": "0" * 64},
        "recipe": dataclasses.asdict(settings),
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    ids = np.arange(first_id, first_id + len(labels))
    np.savez(folder / "predictions.npz", ids=ids, labels=labels, **logits)
    if logs:
        (folder / "logs").mkdir()
        log = "epoch,accuracy,loss,hard,soft,val_accuracy,val_loss\n"
        log += "0,0.4,6,2,4,0.5,2\n1,0.6,3,1,2,0.7,1\n2,0.8,1.5,0.5,1,0.6,0.5\n"
        for role in logits:
            (folder / "logs" / f"{role}.csv").write_text(log)
    return folder


def attack(folder, worst):
    """What `kdkeras attack` found on 100 images."""
    low, high = evaluation.wilson(round(100 * worst), 100)
    epsilons = (0.0, 4 / 255, 8 / 255, 0.5)
    found = {
        "model": folder.name,
        "threat_model": {
            "norm": "linf", "epsilon": 8 / 255, "epsilon_in_255": "8/255", "examples": 100,
        },
        "worst_case": {"accuracy": worst, "interval": [low, high]},
        "curve": [{"epsilon": e, "accuracy": max(0.0, 0.9 - 2 * e)} for e in epsilons],
        "verdict": "a verdict",
        "reliable": True,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(found))
    Image.new("RGB", (40, 20), "white").save(folder / "adversarial.png")
