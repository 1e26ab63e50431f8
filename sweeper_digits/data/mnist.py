"""What is MNIST's own: ten digits of 28x28 grey pixels."""

SIDE = 28
IMAGE_SHAPE = (SIDE, SIDE, 1)
DIGITS = tuple("0123456789")
