"""Callbacks that record a run elsewhere; sweeper_digits/parts/callbacks.py makes them.

Reading order:
    tracker      what trackers share: the epochs, the settings, the end, and what a failure costs
    mlflow       a run of MLflow
    wandb        a run of Weights & Biases
    tensorboard  Keras' TensorBoard, with HParams
"""
