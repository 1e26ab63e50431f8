"""The Hydra plugin: what `hydra/sweeper=study` is. Loaded at every start, so nothing heavy here."""

import copy
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from sweeper_digits import config
from sweeper_digits.runs.origin import SEARCH_PATH


class StudySweeper(Sweeper):
    """Search with Optuna: pruned, asynchronous, resumable.

    The process that the user starts asks for trials, launches their jobs and tells the study how they ended.
    """

    config: DictConfig  # Hydra declares it optional; setup always gives it

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to every sweeper."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        """Search until the study has its trials."""
        from sweeper_digits.sweep import loop, space  # with Optuna, and --help loads this

        judged = config.judged("hydra.sweeper.", config.StudySweeperConf, self.options)
        options = OmegaConf.create(judged, flags={"allow_objects": True})
        sweep = space.Sweep.of(options, self.config, arguments, self._loader())
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task_function, config=self.config
        )
        loop.search(sweep, launcher, self.context, self.task_function)

    def _loader(self) -> ConfigLoader:
        """Return Hydra's loader; of hydra.searchpath, Hydra gives it to single runs only."""
        loader = self.context.config_loader
        sources = self.config.hydra.runtime.config_sources
        added = [source for source in sources if source.provider.startswith(SEARCH_PATH)]
        if not added:
            return loader
        path = copy.deepcopy(loader.get_search_path())
        for source in added:
            path.prepend(source.provider, f"{source.schema}://{source.path}", SearchPathQuery(provider="schema"))
        return type(loader)(path)  # type: ignore[call-arg]


class LocalLauncher(BasicLauncher):
    """Run the jobs of a sweep of ours in warm processes on this machine, one for each slot (`sweep.local`).

    A sweeper of another program gets its jobs run in this process, as by Hydra's own launcher.
    """


# Hydra finds them so in a checkout that is not installed too.
Plugins.instance().register(StudySweeper)
Plugins.instance().register(LocalLauncher)
