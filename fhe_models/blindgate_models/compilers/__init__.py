"""From a fitted estimator to the two parts of a model."""
