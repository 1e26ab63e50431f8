"""Train one model, or search for the best: `python train.py [group=option] [key=value]`."""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sweeper_digits import command_line, schema, screen
from sweeper_digits.quiet import quiet_import
from sweeper_digits.sweep import plugin  # noqa: F401 - it registers itself with Hydra


@hydra.main(config_path=str(command_line.CONF), config_name="config", execution_whitelist=command_line.CALLABLES)
def main(cfg: DictConfig) -> object:
    with screen.job_errors():
        config = schema.parse(cfg)
        with quiet_import():
            from sweeper_digits.sweep import job
            from sweeper_digits.training.run import run  # imports Keras: only now, so that --help is instant
        job_config = HydraConfig.get()
        with job.attached():
            return run(config, job_config.runtime.output_dir, in_sweep=job_config.mode == RunMode.MULTIRUN)


if __name__ == "__main__":
    command_line.start(main)
