"""Options of training in words, for tables, charts and the terminal."""

from __future__ import annotations

from mnistbench.task.workload import Workload


def training_summary(workload: Workload) -> str:
    """Write the options of training on one line: "adam, learning rate 0.001 (cosine), relu, he, dropout 0.5"."""
    recipe, change = workload.recipe, workload.recipe.augmentation
    schedule = {
        "constant": "",
        "cosine": " (cosine)",
        "step": f" (times {recipe.schedule.factor:g} every {recipe.schedule.every} epochs)",
    }[recipe.schedule.name]
    always = [recipe.optimizer.name, f"learning rate {workload.learning_rate:g}{schedule}"]
    always += [workload.network.activation, recipe.initializer]
    options = {
        f"L2 {recipe.l2:g}": recipe.l2 > 0,
        f"dropout {' and '.join(f'{rate:g}' for rate in recipe.dropout)}": any(recipe.dropout),
        f"batches of {workload.batch_size}": recipe.batch_size is not None,
        f"shift {change.shift}": change.shift > 0,
        f"rotate {change.rotate:g}": change.rotate > 0,
        f"elastic {change.elastic_alpha:g} smoothed by {change.elastic_sigma:g}": change.elastic_alpha > 0,
    }
    return ", ".join([*always, *(words for words, used in options.items() if used)])
