"""sentikit: label sentiment well and cheaply with encoders and LLMs, alone or as a team.

>>> import sentikit
>>> classifier = sentikit.load("runs/my-run")  # doctest: +SKIP
>>> classifier.predict(["I love it"])  # doctest: +SKIP
['positive']

Everything a plugin or a program needs is named here; importing this module loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sentikit.errors import InputError, SentikitError, did_you_mean, unknown_name
from sentikit.hookspecs import hookimpl

if TYPE_CHECKING:
    from sentikit.addresses import may_hold_a_key as may_hold_a_key
    from sentikit.addresses import parsed_address as parsed_address
    from sentikit.amounts import usd_text as usd_text
    from sentikit.classifier.batching import BatchLimits as BatchLimits
    from sentikit.classifier.classifier import Classifier as Classifier
    from sentikit.classifier.encoder import Encoder as Encoder
    from sentikit.classifier.export_source import ExportSource as ExportSource
    from sentikit.classifier.exporting import export_model as export_model
    from sentikit.classifier.format import ModelFormat as ModelFormat
    from sentikit.classifier.head import Head as Head
    from sentikit.classifier.loading import load as load
    from sentikit.classifier.loading import set_weights as set_weights
    from sentikit.classifier.model import SentimentModel as SentimentModel
    from sentikit.classifier.prediction import Prediction as Prediction
    from sentikit.classifier.predictor import Predictor as Predictor
    from sentikit.classifier.predictor import TorchPredictor as TorchPredictor
    from sentikit.classifier.pretrained import PretrainedSource as PretrainedSource
    from sentikit.classifier.pretrained import hub_answers as hub_answers
    from sentikit.comparing.compare import compare as compare
    from sentikit.comparing.results import Comparison as Comparison
    from sentikit.data.examples import Examples as Examples
    from sentikit.data.examples import ExamplesBuilder as ExamplesBuilder
    from sentikit.data.hub import hub_splits as hub_splits
    from sentikit.data.hub import load_from_hub as load_from_hub
    from sentikit.data.labels import scheme_for_classes as scheme_for_classes
    from sentikit.data.loader import DatasetLoader as DatasetLoader
    from sentikit.data.opening import OpenedDataset as OpenedDataset
    from sentikit.data.opening import open_dataset as open_dataset
    from sentikit.data.tabular import Rows as Rows
    from sentikit.data.tabular import read_rows as read_rows
    from sentikit.devices import Hardware as Hardware
    from sentikit.devices import autocast as autocast
    from sentikit.devices import choose_device as choose_device
    from sentikit.devices import choose_precision as choose_precision
    from sentikit.files import disk_errors as disk_errors
    from sentikit.files import folder_writer as folder_writer
    from sentikit.files import read_json as read_json
    from sentikit.files import write_json as write_json
    from sentikit.finetuning.fine_tuner import FineTunedModel as FineTunedModel
    from sentikit.finetuning.fine_tuner import FineTuner as FineTuner
    from sentikit.finetuning.fine_tuner import FineTuningJob as FineTuningJob
    from sentikit.finetuning.fine_tuner import FineTuningLimits as FineTuningLimits
    from sentikit.finetuning.fine_tuner import FineTuningSession as FineTuningSession
    from sentikit.finetuning.job import FineTuning as FineTuning
    from sentikit.finetuning.job import FineTuningOptions as FineTuningOptions
    from sentikit.finetuning.job import FinishedFineTuning as FinishedFineTuning
    from sentikit.finetuning.job import open_fine_tuning as open_fine_tuning
    from sentikit.finetuning.preparing import PreparedReport as PreparedReport
    from sentikit.finite_numbers import FiniteRange as FiniteRange
    from sentikit.hookspecs import Register as Register
    from sentikit.keys import find_key as find_key
    from sentikit.keys import key_source as key_source
    from sentikit.keys import without_secrets as without_secrets
    from sentikit.parts import Part as Part
    from sentikit.parts import PartSettings as PartSettings
    from sentikit.plotting.comparison import save_plots as save_plots
    from sentikit.processes.commands import joined_processes as joined_processes
    from sentikit.processes.commands import launch_processes as launch_processes
    from sentikit.processes.commands import typed_command as typed_command
    from sentikit.prompting.backend import Answer as Answer
    from sentikit.prompting.backend import BackendError as BackendError
    from sentikit.prompting.backend import BackendSession as BackendSession
    from sentikit.prompting.backend import BatchBackend as BatchBackend
    from sentikit.prompting.backend import BatchStatus as BatchStatus
    from sentikit.prompting.backend import ChatRequest as ChatRequest
    from sentikit.prompting.backend import FatalError as FatalError
    from sentikit.prompting.backend import LLMBackend as LLMBackend
    from sentikit.prompting.backend import RateLimit as RateLimit
    from sentikit.prompting.backend import RejectedError as RejectedError
    from sentikit.prompting.backend import RetryableError as RetryableError
    from sentikit.prompting.backend import Usage as Usage
    from sentikit.prompting.messages import Message as Message
    from sentikit.prompting.strategy import ExamplesNeeded as ExamplesNeeded
    from sentikit.prompting.strategy import Needs as Needs
    from sentikit.prompting.strategy import Opinion as Opinion
    from sentikit.prompting.strategy import PromptInput as PromptInput
    from sentikit.prompting.strategy import PromptStrategy as PromptStrategy
    from sentikit.prompting.strategy import RetrievedExample as RetrievedExample
    from sentikit.reporting.page import write_report as write_report
    from sentikit.runs.reading import read_run as read_run
    from sentikit.runs.result_format import ResultColumns as ResultColumns
    from sentikit.runs.result_format import ResultFormat as ResultFormat
    from sentikit.runs.table import Labelling as Labelling
    from sentikit.runs.table import RunTable as RunTable
    from sentikit.stopping import Interrupted as Interrupted
    from sentikit.stopping import stop_on_signal as stop_on_signal
    from sentikit.teams.recorded import cascade as cascade
    from sentikit.teams.recorded import compare_cascade as compare_cascade
    from sentikit.teams.recorded import vote as vote
    from sentikit.tracking import LLMCall as LLMCall
    from sentikit.tracking import TrackedRun as TrackedRun
    from sentikit.tracking import Tracker as Tracker
    from sentikit.tracking import flat_numbers as flat_numbers
    from sentikit.training.batches import MicroBatch as MicroBatch
    from sentikit.training.distributed_engine import DistributedEngine as DistributedEngine
    from sentikit.training.engine import Engine as Engine
    from sentikit.training.engine import StepPlan as StepPlan
    from sentikit.training.fitting import FittingPlace as FittingPlace
    from sentikit.training.fitting import Lesson as Lesson
    from sentikit.training.fitting import fit as fit
    from sentikit.training.memory import MemoryNeed as MemoryNeed
    from sentikit.training.memory import ModelSize as ModelSize
    from sentikit.training.memory import replicated as replicated
    from sentikit.training.parameter_groups import ParameterGroup as ParameterGroup
    from sentikit.training.settings import LoopSettings as LoopSettings
    from sentikit.training.trainer import Labelled as Labelled
    from sentikit.weights import read_weights as read_weights
    from sentikit.weights import write_weights as write_weights

__version__ = "0.1.0"

_LAZY: dict[str, str] = {
    "Answer": "sentikit.prompting.backend",
    "BackendError": "sentikit.prompting.backend",
    "BackendSession": "sentikit.prompting.backend",
    "BatchBackend": "sentikit.prompting.backend",
    "BatchLimits": "sentikit.classifier.batching",
    "BatchStatus": "sentikit.prompting.backend",
    "ChatRequest": "sentikit.prompting.backend",
    "Classifier": "sentikit.classifier.classifier",
    "Comparison": "sentikit.comparing.results",
    "DatasetLoader": "sentikit.data.loader",
    "DistributedEngine": "sentikit.training.distributed_engine",
    "Encoder": "sentikit.classifier.encoder",
    "Engine": "sentikit.training.engine",
    "Examples": "sentikit.data.examples",
    "ExamplesBuilder": "sentikit.data.examples",
    "ExamplesNeeded": "sentikit.prompting.strategy",
    "ExportSource": "sentikit.classifier.export_source",
    "FatalError": "sentikit.prompting.backend",
    "FineTunedModel": "sentikit.finetuning.fine_tuner",
    "FineTuner": "sentikit.finetuning.fine_tuner",
    "FineTuning": "sentikit.finetuning.job",
    "FineTuningJob": "sentikit.finetuning.fine_tuner",
    "FineTuningLimits": "sentikit.finetuning.fine_tuner",
    "FineTuningOptions": "sentikit.finetuning.job",
    "FineTuningSession": "sentikit.finetuning.fine_tuner",
    "FinishedFineTuning": "sentikit.finetuning.job",
    "FiniteRange": "sentikit.finite_numbers",
    "FittingPlace": "sentikit.training.fitting",
    "Hardware": "sentikit.devices",
    "Head": "sentikit.classifier.head",
    "Interrupted": "sentikit.stopping",
    "LLMBackend": "sentikit.prompting.backend",
    "Labelled": "sentikit.training.trainer",
    "LLMCall": "sentikit.tracking",
    "Labelling": "sentikit.runs.table",
    "Lesson": "sentikit.training.fitting",
    "LoopSettings": "sentikit.training.settings",
    "Message": "sentikit.prompting.messages",
    "MicroBatch": "sentikit.training.batches",
    "MemoryNeed": "sentikit.training.memory",
    "ModelFormat": "sentikit.classifier.format",
    "ModelSize": "sentikit.training.memory",
    "Needs": "sentikit.prompting.strategy",
    "OpenedDataset": "sentikit.data.opening",
    "Opinion": "sentikit.prompting.strategy",
    "ParameterGroup": "sentikit.training.parameter_groups",
    "Part": "sentikit.parts",
    "PartSettings": "sentikit.parts",
    "Prediction": "sentikit.classifier.prediction",
    "Predictor": "sentikit.classifier.predictor",
    "PreparedReport": "sentikit.finetuning.preparing",
    "PretrainedSource": "sentikit.classifier.pretrained",
    "PromptInput": "sentikit.prompting.strategy",
    "PromptStrategy": "sentikit.prompting.strategy",
    "RateLimit": "sentikit.prompting.backend",
    "Register": "sentikit.hookspecs",
    "RejectedError": "sentikit.prompting.backend",
    "ResultColumns": "sentikit.runs.result_format",
    "ResultFormat": "sentikit.runs.result_format",
    "RetrievedExample": "sentikit.prompting.strategy",
    "RetryableError": "sentikit.prompting.backend",
    "Rows": "sentikit.data.tabular",
    "RunTable": "sentikit.runs.table",
    "SentimentModel": "sentikit.classifier.model",
    "StepPlan": "sentikit.training.engine",
    "TorchPredictor": "sentikit.classifier.predictor",
    "TrackedRun": "sentikit.tracking",
    "Tracker": "sentikit.tracking",
    "Usage": "sentikit.prompting.backend",
    "autocast": "sentikit.devices",
    "cascade": "sentikit.teams.recorded",
    "choose_device": "sentikit.devices",
    "choose_precision": "sentikit.devices",
    "compare": "sentikit.comparing.compare",
    "compare_cascade": "sentikit.teams.recorded",
    "disk_errors": "sentikit.files",
    "export_model": "sentikit.classifier.exporting",
    "find_key": "sentikit.keys",
    "fit": "sentikit.training.fitting",
    "flat_numbers": "sentikit.tracking",
    "folder_writer": "sentikit.files",
    "hub_splits": "sentikit.data.hub",
    "joined_processes": "sentikit.processes.commands",
    "key_source": "sentikit.keys",
    "launch_processes": "sentikit.processes.commands",
    "hub_answers": "sentikit.classifier.pretrained",
    "load": "sentikit.classifier.loading",
    "load_from_hub": "sentikit.data.hub",
    "open_dataset": "sentikit.data.opening",
    "open_fine_tuning": "sentikit.finetuning.job",
    "read_json": "sentikit.files",
    "read_rows": "sentikit.data.tabular",
    "read_run": "sentikit.runs.reading",
    "read_weights": "sentikit.weights",
    "replicated": "sentikit.training.memory",
    "scheme_for_classes": "sentikit.data.labels",
    "save_plots": "sentikit.plotting.comparison",
    "set_weights": "sentikit.classifier.loading",
    "stop_on_signal": "sentikit.stopping",
    "typed_command": "sentikit.processes.commands",
    "may_hold_a_key": "sentikit.addresses",
    "parsed_address": "sentikit.addresses",
    "usd_text": "sentikit.amounts",
    "vote": "sentikit.teams.recorded",
    "without_secrets": "sentikit.keys",
    "write_json": "sentikit.files",
    "write_report": "sentikit.reporting.page",
    "write_weights": "sentikit.weights",
}

__all__ = [
    "InputError",
    "SentikitError",
    "__version__",
    "did_you_mean",
    "hookimpl",
    "unknown_name",
]
__all__ += list(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sentikit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
