"""What a trained network is for: predictions of files and pictures, and an evaluation."""
