"""Searches replayed from recorded learning curves: no training, no Keras.

Reading order:
    workers     simulated workers that train recorded curves
    pruning     a search that trains recorded curves under one of Optuna's pruners
    resampling  what recorded trials say of a pruner, with its error
"""
