"""The mathematics in NumPy, which every backend must reproduce.

:mod:`~mnistbench.reference.tutorial` is the classic; this package hands out its functions.
:mod:`~mnistbench.reference.mlp` is any multilayer perceptron with every option.
"""

from mnistbench.reference.tutorial import Array as Array
from mnistbench.reference.tutorial import Labels as Labels
from mnistbench.reference.tutorial import ReLU as ReLU
from mnistbench.reference.tutorial import ReLU_deriv as ReLU_deriv
from mnistbench.reference.tutorial import backward_prop as backward_prop
from mnistbench.reference.tutorial import cross_entropy as cross_entropy
from mnistbench.reference.tutorial import forward_prop as forward_prop
from mnistbench.reference.tutorial import get_accuracy as get_accuracy
from mnistbench.reference.tutorial import get_predictions as get_predictions
from mnistbench.reference.tutorial import gradient_descent as gradient_descent
from mnistbench.reference.tutorial import init_params as init_params
from mnistbench.reference.tutorial import make_predictions as make_predictions
from mnistbench.reference.tutorial import one_hot as one_hot
from mnistbench.reference.tutorial import scale_images as scale_images
from mnistbench.reference.tutorial import softmax as softmax
from mnistbench.reference.tutorial import update_params as update_params
