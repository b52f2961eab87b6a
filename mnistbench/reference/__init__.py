"""The mathematics in NumPy: what every backend must reproduce.

:mod:`~mnistbench.reference.tutorial` is the classic in the words of a widely read tutorial, and its names are those of
this package; :mod:`~mnistbench.reference.mlp` is any multilayer perceptron with every option.
"""

from mnistbench.reference.tutorial import (
    Array,
    Labels,
    ReLU,
    ReLU_deriv,
    backward_prop,
    cross_entropy,
    forward_prop,
    get_accuracy,
    get_predictions,
    gradient_descent,
    init_params,
    make_predictions,
    one_hot,
    scale_images,
    softmax,
    update_params,
)

__all__ = [
    "Array",
    "Labels",
    "ReLU",
    "ReLU_deriv",
    "backward_prop",
    "cross_entropy",
    "forward_prop",
    "get_accuracy",
    "get_predictions",
    "gradient_descent",
    "init_params",
    "make_predictions",
    "one_hot",
    "scale_images",
    "softmax",
    "update_params",
]
