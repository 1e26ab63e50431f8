"""Train one model, or search for the best: `python train.py [group=option] [key=value]`."""

from sweeper_digits.command_line import main

# Hydra's completion of `python train.py` in a shell asks only files that hold the words @hydra.main.

if __name__ == "__main__":
    main()
