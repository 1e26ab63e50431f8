"""Train one model, or search for the best: `python train.py [group=option] [key=value]`."""

import hydra
from omegaconf import DictConfig

from sweeper_digits import command_line, schema
from sweeper_digits.sweep import plugin  # noqa: F401 - it registers itself with Hydra


@hydra.main(config_path=str(command_line.CONF), config_name="config", execution_whitelist=schema.TARGETS)
def main(cfg: DictConfig) -> object:
    with command_line.job_errors():
        config = schema.parse(cfg)
        with command_line.quiet_import():
            from sweeper_digits.sweep import job
            from sweeper_digits.training import run  # imports Keras: only now, so that --help is instant
        with job.attached():
            return run.run(config)


if __name__ == "__main__":
    command_line.start(main)
