"""Any multilayer perceptron, with every option."""
