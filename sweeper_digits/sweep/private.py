"""What this package uses of other packages beside their public interface, in one place.

Each name is looked up at import, so that a new version without it ends the program with one error, instead of a sweep
that waits no longer for its database.
"""

from hydra.core.utils import JobReturn
from optuna.storages import RDBStorage, get_storage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial

__all__ = ["BaseHeartbeat", "get_storage"]

USED = {
    # `fail_stale_trials` reads it from any storage with heartbeats, so a storage in front must have it.
    "BaseHeartbeat._get_stale_trial_ids": hasattr(BaseHeartbeat, "_get_stale_trial_ids"),
    # The write that takes SQLite's lock must be in the transaction that Optuna then reads in.
    "RDBStorage.__init__ with scoped_session": "scoped_session" in RDBStorage.__init__.__code__.co_names,
    # The statement of that write names the table and two of its columns.
    "table trials with trial_id and state": TrialModel.__tablename__ == "trials"
    and {"trial_id", "state"} <= set(TrialModel.__table__.columns.keys()),
    # Storage methods take ids. A trial's own id spares the query that looks it up by its number.
    "FrozenTrial._trial_id": "_trial_id" in vars(FrozenTrial) or "_trial_id" in FrozenTrial.__init__.__code__.co_names,
    # The public `return_value` of a failed job prints to stderr and raises.
    "JobReturn._return_value": hasattr(JobReturn, "_return_value"),
}
if missing := [name for name, found in USED.items() if not found]:
    raise ImportError(f"the installed versions of optuna and hydra-core lack {', '.join(missing)}; see constraints.txt")
