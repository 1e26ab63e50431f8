"""A run of Weights & Biases for each training; the trials of a sweep, and the folds of a run, are one group."""

import wandb

from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.text import relative
from sweeper_digits.training.context import RunContext
from sweeper_digits.training.trackers.tracker import Tracker, best_numbers, compared_settings

# A client cannot say more than whether a run has failed; 255 is what Weights & Biases itself says after Ctrl-C. A
# pruned run has a tag.
EXIT_CODE = {"finished": 0, "pruned": 0, "stopped": 255}  # any other: 1


class WandbRun(Tracker):
    """Record a training as a run of Weights & Biases; a resumed one goes on in the run with the same id.

    Its data are in the folder `wandb` of the run folder, whose files carry the id.

    WandbMetricsLogger of Weights & Biases is of no use here: it reads the learning rate in a way that ends the
    training with JAX, and knows neither the epochs of a resumed run nor how a run ended.

    Args:
        run: The run that is watched.
        project: Name of the project.
        entity: User or team; None: the one that is logged in.
        model: Whether model.keras is uploaded too.
    """

    name = "wandb"

    def __init__(self, run: RunContext, project: str, entity: str | None, model: bool) -> None:
        super().__init__(run)
        self.project, self.entity, self.with_model = project, entity, model

    def begin(self) -> str:
        """Begin the run of Weights & Biases, or continue it.

        Raises:
            UserError: Nobody is logged in.
        """
        online = wandb.setup().settings.mode not in ("offline", "dryrun", "disabled")
        if online and not wandb.login(prompt=False):
            raise UserError("callbacks=[wandb]: nobody is logged in; type wandb login, or export WANDB_MODE=offline")
        title = f"{self.run.study}/{self.run.trial}" if self.run.study else self.whole.name
        known = self._earlier_id()
        self.writer = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.run.study or (title if self.fold else None),
            name=f"{title}/{self.fold}" if self.fold else title,
            id=known,
            resume="allow" if known and online else None,  # offline, it would only warn
            dir=str(self.run.folder),
            config=compared_settings(self.run),
            reinit="finish_previous",  # a trial that failed before this one may have left its own open
            # Its messages would stand between the epochs; the screen is in train.log already.
            settings=wandb.Settings(console="off", silent=True),
        )
        self.recorded = max(0, self.writer.starting_step - 1)
        return str(self.writer.url if online else relative(self.folder.wandb.resolve()))

    def record(self, epoch: int, numbers: dict[str, float]) -> None:
        self.writer.log(numbers, step=epoch)

    def end(self, state: str) -> None:
        """Store the pictures, the best numbers and the state; a state other than finished is a tag too."""
        pictures = {path.stem: wandb.Image(str(path)) for path in self.pictures()}
        if pictures:
            self.writer.log(pictures, step=self.recorded)
        if state != "finished":
            self.writer.tags = (*(self.writer.tags or ()), state)
        self.writer.summary.update(best_numbers(self.folder) | {"state": state})
        if self.with_model and self.folder.model.exists():
            self.writer.log_artifact(str(self.folder.model), name=f"model-{self.writer.id}", type="model")
        self.writer.finish(exit_code=EXIT_CODE.get(state, 1))

    def _earlier_id(self) -> str | None:
        """Return the id of the run that is continued: the folders of its data are named run-TIME-ID."""
        source = self.continued() or self.whole
        folder = RunFolder(source / self.fold if self.fold else source).wandb
        found = sorted(folder.glob("*run-*-*"), key=lambda path: path.name.partition("run-")[2])
        return found[-1].name.rpartition("-")[2] if found and self.run.resumed else None
