"""From a file to arrays. This room imports neither Keras nor Optuna; only `digits.load_keras` does, when it is called.

Reading order:
    digits    the data set: images and labels, their checks, and the bundled and downloaded sets
    tables    CSV files and Kaggle's zip
    idx       MNIST's own files
    arrays    NumPy archives
    pictures  photographs, scaled and centred in the way of MNIST
    limits    how much a file may hold once it is unpacked
    split     which images train, which validate, and which stay locked
"""
