"""One run: build, fit, evaluate, write. Knows no Optuna."""
