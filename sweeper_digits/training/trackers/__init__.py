"""Callbacks that record a run elsewhere; sweeper_digits/training/trackers/registered.py makes them.

Reading order:
    registered   the callbacks that conf/ names
    tracker      what trackers share: the epochs, the settings, the end, and what a failure costs
    mlflow       a run of MLflow
    wandb        a run of Weights & Biases
    tensorboard  Keras' TensorBoard, with HParams
"""
