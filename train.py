"""Train one model, or search for the best: `python train.py [group=option] [key=value]`."""

from sweeper_digits.command_line import main

if __name__ == "__main__":
    main()
