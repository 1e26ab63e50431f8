"""From a file to arrays. This room imports neither Keras nor Optuna; only `dataset.load_keras` does, when it is called.

Reading order:
    sources      the data sources that conf/ names
    dataset      images with labels and the names of their classes; the bundled and downloaded sets
    checks       pixels and labels of any form, brought into one
    file         any file, folder or zip: what it holds, in one data set
    pieces       the data sets found in a path, by split, and the choice of one
    contents     the files of a folder or a zip
    kinds        what a file is, by its first bytes
    tables       CSV files and Kaggle's zip
    formats      IDX, MATLAB, HDF5 and Parquet
    arrays       NumPy archives, and which arrays are images and labels
    pictures     picture files and folders of them
    photographs  a photograph of a digit, in the form that MNIST's digits have
    inspection   one look at the pixels: what they are, and what looks off
    split        which images train, which validate, and which stay locked
    fingerprint  what a run keeps of its images: which they are, and which train, validate and stay locked
"""
