"""From a file to arrays. This room imports neither Keras nor Optuna; only `dataset.load_keras` does, when it is called.

Reading order:
    dataset      images with labels and the names of their classes; the bundled and downloaded sets
    checks       pixels and labels of any form, brought into one
    tables       CSV files and Kaggle's zip
    idx          MNIST's own files
    arrays       NumPy archives
    pictures     photographs, scaled and centred in the way of MNIST
    limits       how much a file may hold once it is unpacked
    inspection   one look at the pixels: what they are, and what looks off
    orientation  whether digits are upright, compared with MNIST's
    duplicates   which images are equal
    split        which images train, which validate, and which stay locked
"""
