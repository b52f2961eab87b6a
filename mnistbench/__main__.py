"""``python -m mnistbench``: the same as the command ``mnistbench``."""

from mnistbench.cli import main

main()
