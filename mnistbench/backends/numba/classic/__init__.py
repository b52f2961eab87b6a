"""The classic: one hidden layer of ReLU, full batch, plain gradient descent."""
