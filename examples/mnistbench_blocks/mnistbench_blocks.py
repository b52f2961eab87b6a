"""NumPy on 1,000 images at a time, which stay in the cache between the forward and the backward pass."""

from threadpoolctl import threadpool_limits

from mnistbench import Dataset, Parameters, Workload
from mnistbench.backends.base import Backend, Description, Metrics, Trainer
from mnistbench.reference import cross_entropy, get_accuracy, get_predictions, mlp, scale_images
from mnistbench.threads import resolve


class BlocksTrainer(Trainer):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        super().__init__(workload)
        self.train, self.threads = dataset.train, resolve(threads)
        self.reset(parameters)

    def reset(self, parameters: Parameters) -> None:
        self.state = mlp.State.start(parameters.astype(self.workload.dtype), self.workload.recipe.optimizer)

    def parameters(self) -> Parameters:
        return self.state.parameters.astype(self.workload.dtype)

    def gradients(self) -> Parameters:
        means, self.loss, self.accuracy = [0 * array for array in self.state.parameters.arrays()], 0.0, 0.0
        for block in [slice(first, first + 1000) for first in range(0, len(self.train), 1000)]:
            X, Y = scale_images(self.train.images[block], self.workload.dtype), self.train.labels[block]
            share, (Zs, As) = len(Y) / len(self.train), mlp.forward(self.state.parameters, X, "relu")
            gradients = mlp.backward(self.state.parameters, Zs, As, Y, "relu").arrays()
            means = [mean + share * gradient for mean, gradient in zip(means, gradients, strict=True)]
            self.loss += share * cross_entropy(Zs[-1], Y)
            self.accuracy += share * get_accuracy(get_predictions(Zs[-1]), Y)
        return Parameters.from_arrays(means)

    def advance(self, iterations: int) -> Metrics:
        with threadpool_limits(self.threads):
            for _ in range(iterations):
                self.state = mlp.update(self.workload, self.state, self.gradients())
        return Metrics(self.loss, self.accuracy)

    def describe(self) -> Description:
        return Description("CPU", self.threads, {"mnistbench-blocks": "1.0"}, "BLAS, 1,000 images at a time")


class BlocksBackend(Backend):
    name, load = "blocks", staticmethod(BlocksTrainer)
