"""``python -m cli fit|validate|tune|test|predict|bound``: Lightning's command line, with a run directory of ours."""

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger

import cli.class_names  # noqa: F401
from cli.cluster import check_started_by_srun, trainer_plugins
from cli.config_errors import ConfigParser, check_settings, in_one_sentence
from cli.old_names import with_current_names
from cli.processes import check_processes, is_first, say, settle_precision, show
from cli.refused_images import say_refused
from cli.run_folder import RunFolder, Start, settle_start
from cli.runs import Trained, checkpoint_arguments, settle_trained
from cli.tracking import log_run, settle_tracking
from cli.tuned_parameters import store_parameters, stored_parameters, with_config
from cli.weights import initial_weights, start_from, take_averaged
from datamodules.prediction import PredictionLoader
from karyon.checkpoint import checkpoint_weights
from karyon.errors import DataError
from karyon.io.whole_files import write_whole
from lightning_modules.callbacks.epoch_lines import EpochLines
from lightning_modules.callbacks.evaluation_overlays import EvaluationOverlays
from lightning_modules.callbacks.exact_resume import ExactResume
from lightning_modules.callbacks.model_table import ModelTable
from lightning_modules.callbacks.prediction_writer import PredictionWriter
from lightning_modules.callbacks.result_log import ResultLog
from lightning_modules.callbacks.result_table import bounds_table, result_table
from lightning_modules.callbacks.resumed_settings import ResumedSettings
from lightning_modules.callbacks.run_record import RunRecord
from lightning_modules.callbacks.sample_pictures import SamplePictures
from lightning_modules.callbacks.score_tables import ScoreTables
from lightning_modules.callbacks.training_figures import TrainingFigures
from lightning_modules.stage_bounds import BoundingTrainer
from lightning_modules.trained_runs import check_fits, without_downloads

# Calls inside Lightning 2.6 that newer jsonargparse and torch deprecate; nothing a user of ours can act on.
# Source: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
# Arguments of Albumentations are tuples, which take lists just as well.
warnings.filterwarnings("ignore", message="\\s*Dump of a value that does not round-trip: a tuple")
# On two cores a second worker gains nothing, and num_workers is the user's choice.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")

# None are deleted: what was logged before has been renamed.
warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
# Our metrics gather the images of all processes, tell them apart by their names, and count each once.
warnings.filterwarnings("ignore", message=".*recommended to use `self.log\\(.*sync_dist=True")
warnings.filterwarnings("ignore", message="Using `DistributedSampler` with the dataloaders")
# A TrainingLoader goes on where the training does.
warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")

# Lightning advertises its own services at every start.
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.getMessage())
# Every process says its seed and its number; the first one's lines tell both of all.
for speaker in ("seed", "distributed"):
    logging.getLogger(f"lightning.fabric.utilities.{speaker}").addFilter(lambda _: is_first())

EVALUATIONS = ("validate", "test", "predict", "tune", "bound")


class SaveConfig(SaveConfigCallback):
    """Keeps the resolved config in the run's folder, and hands it to the loggers after the first (W&B, TensorBoard)."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        log_run(trainer, yaml.safe_load(self.parser.dump(self.config, skip_none=False)))


class KaryonCLI(LightningCLI):
    """LightningCLI in subclass mode; what it adds is where things are kept and which checkpoint is meant."""

    trainer: BoundingTrainer
    trained: Trained
    start: Start
    exit_code = 0

    def __init__(self) -> None:
        self.run_folder: RunFolder | None = None
        self.parsers: list[ConfigParser] = []
        try:
            super().__init__(
                LightningModule,
                LightningDataModule,
                trainer_class=BoundingTrainer,
                subclass_mode_model=True,
                subclass_mode_data=True,
                seed_everything_default=42,
                save_config_callback=SaveConfig,
                auto_configure_optimizers=False,
                parser_kwargs={"prog": "python -m cli"},
            )
        finally:
            if self.run_folder:
                self.run_folder.release()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {**LightningCLI.subcommands(), "tune": {"model", "datamodule"}, "bound": {"model", "datamodule"}}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = ConfigParser(allow_abbrev=False, **kwargs)
        self.parsers.append(parser)
        parser.of_commands = self.parsers
        parser.add_argument("-c", "--config", action=ActionConfigFile, help="a YAML of options; later ones win")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line; parameters that were tuned for the checkpoint come after the last config file."""
        sys.argv[1:] = with_current_names(sys.argv[1:])
        super().parse_arguments(parser, args)
        subcommand = self.config.subcommand
        config = self.config[subcommand]
        if subcommand not in EVALUATIONS:
            if stages := checkpoint_arguments(config.model):
                raise DataError(f"This model is made of {' and '.join(stages)}: train those, then tune and test it.")
            return
        self.trained = settle_trained(config)
        parameters = None if subcommand == "tune" else stored_parameters(self.trained, config.model)
        if parameters:
            self.config = parser.parse_args(with_config(sys.argv[1:], parameters))
            self.trained = settle_trained(self.config[subcommand])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="unnamed", help="the run's name, a folder under runs_dir")
        parser.add_argument("--runs_dir", type=Path, default=Path("runs"), help="where all runs are kept")
        parser.add_argument(
            "--version",
            type=str | None,
            default=None,
            help="run version to resume or create",
        )
        initial = "initial weights: model name, bundle or checkpoint"
        parser.add_argument("--start_from", type=Path | None, default=None, help=initial)
        parser.add_argument(
            "--out", type=Path | None, default=None, help="folder that validate, test and predict write into"
        )
        parser.add_argument("--test_after_fit", type=bool, default=False, help="whether fit ends with a test")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        # After the one above, whose best is what "best" means. save_last would not do: since Lightning 2.6 it writes
        # only where a new best was saved, so that going on from it would repeat, and forget, all epochs since.
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(EvaluationOverlays, "overlays")
        parser.add_lightning_class_args(SamplePictures, "samples")
        parser.add_lightning_class_args(PredictionWriter, "writer")
        parser.set_defaults(
            {
                "checkpoint.filename": "best",
                "checkpoint.monitor": "val/dsb_score",
                "checkpoint.mode": "max",
                # best.ckpt stays best.ckpt, so that a later command can name it.
                "checkpoint.enable_version_counter": False,
                "last_checkpoint.filename": "last",
                "last_checkpoint.enable_version_counter": False,
                "last_checkpoint.save_on_train_epoch_end": True,
            }
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "KaryonCLI":
        """Stays one: averaged weights are a copy of the model, whose optimizer's factory refers to what made it."""
        return self

    def _parse_ckpt_path(self) -> None:
        """Leaves the hyper-parameters in a checkpoint alone: Lightning lets them beat the command line."""

    def before_instantiate_classes(self) -> None:
        """Settles which checkpoint is meant and where the run's files go, before anything slow happens."""
        config = self.config[self.subcommand]
        check_started_by_srun()
        settle_precision(config.trainer)
        resumed: Path | None = None
        if self.subcommand in EVALUATIONS:
            # Nothing is saved here, so it does not matter that another folder's best score is forgotten.
            warnings.filterwarnings("ignore", message="The dirpath has changed")
            # What a checkpoint calls its weights are the averaged ones already.
            warnings.filterwarnings("ignore", message=".*loading a checkpoint outside the 'fit' stage")
            self.log_dir = config.out or self.trained.folder / self.subcommand
        else:
            self.start, said = settle_start(config)
            resumed = self.start.folder
            if said:
                say(said)
            if config.start_from and not config.ckpt_path:
                config.model = without_downloads(config.model)
        settle_tracking(config, str(self.subcommand), resumed)

    def instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        check_settings(config)
        with in_one_sentence(config):
            super().instantiate_classes()
        if config.ckpt_path:
            check_fits(checkpoint_weights(Path(config.ckpt_path)), self.model, Path(config.ckpt_path))
        elif self.subcommand == "fit":
            if config.start_from:
                start_from(self.model, config.start_from)
            say(f"Initial weights: {initial_weights(config)}.")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand]
        if self.subcommand in EVALUATIONS:
            csv_logger = CSVLogger(self.log_dir, name="", version="")
            self.save_config_kwargs = {"overwrite": True}
        else:
            if is_first():
                self.run_folder = RunFolder(self.start)
                self.save_config_kwargs = {"config_filename": self.run_folder.config_name}
            # The other processes are told by the first, through the trainer.
            version = self.run_folder.path.name if self.run_folder else None
            # On disk at once: a run that is killed loses no metrics.
            csv_logger = CSVLogger(config.runs_dir, config.name, version, flush_logs_every_n_steps=1)
        extra = config.trainer.logger
        extra = [] if extra in (None, True) else extra if isinstance(extra, list) else [extra]
        # In place of Lightning's; none at a depth of 0.
        record = RunRecord(initial_weights(self.config[self.subcommand]))
        own = [ModelTable(int(config.trainer.enable_model_summary is not False)), record, ResumedSettings()]
        own += [ScoreTables(), TrainingFigures(), EpochLines(), ResultLog(), ExactResume()]
        callbacks = [*(config.trainer.callbacks or []), *own]
        # A bar that redraws itself floods a log file; there, the lines of each epoch tell how far it is.
        bar = sys.stdout.isatty() if config.trainer.enable_progress_bar is None else config.trainer.enable_progress_bar
        trainer = super().instantiate_trainer(
            logger=[csv_logger, *extra],
            callbacks=callbacks,
            enable_progress_bar=bar,
            enable_model_summary=False,
            plugins=trainer_plugins(config.trainer.plugins),
            **kwargs,
        )
        say(f"Run folder: {trainer.log_dir}")
        check_processes(trainer, config.trainer.sync_batchnorm)
        return trainer

    def after_fit(self) -> None:
        say(f"Run folder: {self.trainer.log_dir}")
        if self.config[self.subcommand].test_after_fit and not self.trainer.interrupted:
            take_averaged(self.trainer)
            best = getattr(self.trainer.checkpoint_callback, "best_model_path", None)
            self.test(model=self.model, datamodule=self.datamodule, ckpt_path=best or None)
            self.after_test()

    def test(self, **kwargs: Any) -> None:
        """Tests without Lightning's own table, which would list every metric of every image type."""
        self.trainer.test(**{**kwargs, "verbose": False})

    def validate(self, **kwargs: Any) -> None:
        self.trainer.validate(**{**kwargs, "verbose": False})

    def predict(self, **kwargs: Any) -> None:
        """Predicts without keeping every image's prediction in memory: the writer has stored it."""
        self.trainer.predict(**{**kwargs, "return_predictions": False})

    def after_test(self) -> None:
        folder = Path(self.trainer.log_dir or ".")
        if self.trainer.is_global_zero:
            show(result_table(self.trainer.callback_metrics, "test"))
            print(f"The overlays lie in {folder / 'overlays'}, everything else beside them.")

    def after_validate(self) -> None:
        if self.trainer.is_global_zero:
            show(result_table(self.trainer.callback_metrics, "val"))

    def after_tune(self) -> None:
        config, tuned = self.config[self.subcommand], self.trainer.tuned
        scores = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        path = store_parameters(self.trained, tuned, config.model, scores)
        print(
            f"{tuned.metric} on {tuned.images} validation images: {tuned.before:.4f} before, {tuned.after:.4f} after. "
            f"The parameters are in {path}; validate, test and predict take them from there."
        )

    def after_bound(self) -> None:
        # Beside what the chain itself has scored, which came last. Every process must ask: the first broadcasts it.
        path = Path(self.trainer.log_dir or ".") / "record.json"
        if not self.trainer.is_global_zero:
            return
        bounds = {f"{boxes} boxes, {masks} masks": found for (boxes, masks), found in self.trainer.bounds.items()}
        record = {**json.loads(path.read_text()), "bounds": bounds}
        write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
        show(bounds_table(bounds))
        print(f"All metrics are in {path}, under bounds.")

    def after_predict(self) -> None:
        say(f"Everything is in {self.trainer.log_dir}")
        if isinstance(loader := self.trainer.predict_dataloaders, PredictionLoader):
            self.exit_code = say_refused(loader)
