"""Searches replayed from recorded learning curves: no training, no Keras.

Reading order: `workers` (simulated workers that train recorded curves), `pruning` (the same under Optuna's pruners).
"""
