"""Learning: folds, preparation, frozen features, the training loop, evaluation, the model on disk."""
