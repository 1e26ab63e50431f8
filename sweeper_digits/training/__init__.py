"""One run: `prepare`, `fit`, `keep`, which `run` puts together. Knows no Optuna."""
