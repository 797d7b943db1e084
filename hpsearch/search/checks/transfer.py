"""What a net that has trained before knows of these images already, and how much of it to train then."""

from __future__ import annotations

from hpsearch.analysis.transfer_advice import transfer_advice
from hpsearch.config import StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.search.checks.findings import Finding, four_digits
from hpsearch.training.neighbours import LAST, NEIGHBOURS, look_at_neighbours
from hpsearch.wording import count_text

SECONDS = 10.0  # for passes through the net; it looks at fewer images where these take longer


def transfer_findings(config: StudyConfig, data: TrainingData, seconds: float = SECONDS) -> list[Finding]:
    """Accuracy by nearest neighbours on features, and the advice that follows; nothing of a net with several heads.

    Args:
        config: of a net with the weights of a training before.
        data: its images, not features.
        seconds: for the features.
    """
    found = look_at_neighbours(config, data, seconds)
    if found is None:
        return []
    accuracies = found.accuracies
    stages = ", ".join(f"{accuracies[stage]:.3f} after stage {stage}" for stage in accuracies if stage != LAST)
    text = f"val_acc {accuracies[LAST]:.3f} by the {NEIGHBOURS} nearest of {count_text(found.num_train, 'image')} on"
    text += f" the features{f' ({stages})' if stages else ''}, guessing {found.guessing:.3f}"
    measured = {
        "neighbours": NEIGHBOURS,
        "images": found.num_train,
        "validation_images": found.num_val,
        "guessing": four_digits(found.guessing),
        "accuracies": {str(stage): four_digits(accuracy) for stage, accuracy in accuracies.items()},
    }
    baseline = Finding("neighbours", "ok", text, "a baseline: a head that trains should do better", measured)
    per_class = data.num_train / data.num_classes
    advice = transfer_advice(per_class, accuracies, found.guessing, config.model.freeze, config.space)
    numbers = {"images_per_class": four_digits(per_class)}
    return [
        baseline,
        Finding("transfer", "ok" if advice.fits else "note", advice.text, advice.advice, numbers),
    ]
