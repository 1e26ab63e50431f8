"""Predictions with models that exist.

Reading order:
    predict     `predict`: scores, a submission, or labels of single pictures
    images      which images are predicted, and what the runs did with them
    ensemble    which runs predict together, and with which weights
    submission  Kaggle's submission file
"""
