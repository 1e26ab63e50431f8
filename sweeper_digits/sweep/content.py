"""What the data of a study is: whoever reads it first decides, and each trial compares what it has read."""

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from sweeper_digits.data.fingerprint import Content
from sweeper_digits.errors import OtherData
from sweeper_digits.options import Data
from sweeper_digits.schema import typed
from sweeper_digits.sweep import attributes
from sweeper_digits.sweep.storage import study_lock
from sweeper_digits.sweep.trials import DONE, trials_of

if TYPE_CHECKING:
    from sweeper_digits.sweep.queue import Queue
    from sweeper_digits.sweep.space import Sweep

log = logging.getLogger(__name__)

# Attributes of a study begin with this: one for each option of the data that its trials read.
DATA = attributes.kept("data ", attributes.mapping(images=attributes.COUNT, fingerprint=attributes.TEXT))


def check_data(queue: "Queue", option: Data, content: Content) -> None:
    """Keep with a study what an option of the data gives, or compare it with what it gave before.

    Raises:
        OtherData: It gave another content to an earlier trial.
    """
    values = json.dumps(vars(option), sort_keys=True, default=str)
    name = DATA + hashlib.sha256(values.encode()).hexdigest()[:16]
    ours = {"images": len(content.hashes), "fingerprint": content.fingerprint}
    theirs = attributes.of_study(queue.study).get(name)
    if theirs is None:
        with study_lock(queue.storage, queue.study.study_name):
            theirs = attributes.of_study(queue.study).get(name)
            if theirs is None:
                attributes.keep_with_study(queue.study, name, ours)
                return
    if theirs != ours:
        before, now = theirs.get("images", 0), ours["images"]
        number = f"{before:,} images then, {now:,} now" if before != now else f"{now:,} images, but not the same"
        read = f"data.path={path}" if (path := vars(option).get("path")) else "data"
        raise OtherData(
            f"{read}: its images, their labels or their order changed since study={queue.study.study_name} began "
            f"({number}); put the data back as it was, then the same command goes on, or choose another study"
        )


def look_at_data(sweep: "Sweep", queue: "Queue") -> None:
    """Compare the data before any trial does, where it is a file or a folder.

    What cannot be read here is left to the trials, which tell the cause. So is what other sources give, which may need
    Keras.

    Raises:
        OtherData: See `check_data`.
    """
    path = OmegaConf.select(sweep.config, "data.path", throw_on_missing=False)
    if path is None or not Path(str(path)).expanduser().exists():
        return
    from sweeper_digits.data.dataset import read  # only here: it brings pandas

    try:
        option = typed("data", OmegaConf.to_container(sweep.config.data, resolve=True))
        dataset = read(option)
    except (Exception, SystemExit):  # of a registered function, anything
        return
    if dataset.labels is None:
        return
    of_study, done = attributes.of_study(queue.study), any(trial.state in DONE for trial in trials_of(queue.study))
    if done and not any(name.startswith(DATA) for name in of_study):
        log.info("warning: an earlier version did not keep the content of the data: its trials may be of other images")
    check_data(queue, option, Content.of(dataset))
