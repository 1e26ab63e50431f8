"""From a file to arrays. This room imports neither Keras nor Optuna; only `dataset.load_keras` does, when it is called.

Reading order:
    dataset      images with labels and the names of their classes; the bundled and downloaded sets
    checks       pixels and labels of any form, brought into one
    file         any file, folder or zip: what it holds, in one data set
    pieces       what was found in it, and which part of it is meant
    contents     the files of a folder or a zip
    kinds        what a file is, by its first bytes
    tables       CSV files and Kaggle's zip
    columns      which columns of a table are pixels, label and id
    idx          MNIST's own files
    arrays       NumPy archives, and which arrays are images and labels
    matlab       MATLAB's .mat files
    hdf5         HDF5 files
    parquet      Parquet files of Hugging Face
    folders      pictures, with a folder for each class
    pictures     any picture file, as pixels of the model's size
    photographs  a photograph of a digit, in the form that MNIST's digits have
    mnist        what is MNIST's own
    limits       how much a file may hold once it is unpacked
    inspection   one look at the pixels: what they are, and what looks off
    orientation  whether digits are upright, compared with MNIST's
    duplicates   which images are equal
    split        which images train, which validate, and which stay locked
    fingerprint  what a run keeps of its images: which they are, and which train, validate, and stay locked
"""
