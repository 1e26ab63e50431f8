"""From a file to arrays: images, labels, and which of them train, validate and stay locked away. Knows no Keras."""
