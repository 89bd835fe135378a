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
    from sentikit.classifiers.batches import BatchLimits as BatchLimits
    from sentikit.classifiers.classifier import Classifier as Classifier
    from sentikit.classifiers.classifier import Example as Example
    from sentikit.classifiers.classifier import Session as Session
    from sentikit.classifiers.encoder import Encoder as Encoder
    from sentikit.classifiers.encoder_classifier import EncoderClassifier as EncoderClassifier
    from sentikit.classifiers.encoder_classifier import Predictor as Predictor
    from sentikit.classifiers.exporting import export_model as export_model
    from sentikit.classifiers.head import Head as Head
    from sentikit.classifiers.loading import load as load
    from sentikit.classifiers.model_folder import set_weights as set_weights
    from sentikit.classifiers.model_format import ExportSource as ExportSource
    from sentikit.classifiers.model_format import ModelFormat as ModelFormat
    from sentikit.classifiers.plugin_classifier import PluginClassifier as PluginClassifier
    from sentikit.classifiers.prediction import Prediction as Prediction
    from sentikit.classifiers.prediction import Usage as Usage
    from sentikit.classifiers.prediction import predictions as predictions
    from sentikit.classifiers.pretrained import PretrainedSource as PretrainedSource
    from sentikit.classifiers.pretrained import hub_answers as hub_answers
    from sentikit.classifiers.torch_model import SentimentModel as SentimentModel
    from sentikit.classifiers.torch_model import TorchPredictor as TorchPredictor
    from sentikit.comparison.comparison import compare as compare
    from sentikit.comparison.results import Comparison as Comparison
    from sentikit.components import Part as Part
    from sentikit.components import PartSettings as PartSettings
    from sentikit.datasets.examples import Examples as Examples
    from sentikit.datasets.examples import ExamplesBuilder as ExamplesBuilder
    from sentikit.datasets.hub import hub_splits as hub_splits
    from sentikit.datasets.hub import load_from_hub as load_from_hub
    from sentikit.datasets.labels import LabelScheme as LabelScheme
    from sentikit.datasets.labels import scheme_for_classes as scheme_for_classes
    from sentikit.datasets.opening import DatasetLoader as DatasetLoader
    from sentikit.datasets.opening import OpenedDataset as OpenedDataset
    from sentikit.datasets.opening import open_dataset as open_dataset
    from sentikit.datasets.tables import Rows as Rows
    from sentikit.datasets.tables import read_rows as read_rows
    from sentikit.devices import Hardware as Hardware
    from sentikit.devices import autocast as autocast
    from sentikit.devices import choose_device as choose_device
    from sentikit.devices import choose_precision as choose_precision
    from sentikit.ensembles.recorded import cascade as cascade
    from sentikit.ensembles.recorded import compare_cascade as compare_cascade
    from sentikit.ensembles.recorded import vote as vote
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
    from sentikit.llm.backend import Answer as Answer
    from sentikit.llm.backend import BackendError as BackendError
    from sentikit.llm.backend import BackendSession as BackendSession
    from sentikit.llm.backend import BatchBackend as BatchBackend
    from sentikit.llm.backend import BatchStatus as BatchStatus
    from sentikit.llm.backend import ChatRequest as ChatRequest
    from sentikit.llm.backend import FatalError as FatalError
    from sentikit.llm.backend import LLMBackend as LLMBackend
    from sentikit.llm.backend import RateLimit as RateLimit
    from sentikit.llm.backend import RejectedError as RejectedError
    from sentikit.llm.backend import RetryableError as RetryableError
    from sentikit.llm.messages import Message as Message
    from sentikit.llm.strategy import ExamplesNeeded as ExamplesNeeded
    from sentikit.llm.strategy import Needs as Needs
    from sentikit.llm.strategy import Opinion as Opinion
    from sentikit.llm.strategy import PromptInput as PromptInput
    from sentikit.llm.strategy import PromptStrategy as PromptStrategy
    from sentikit.llm.strategy import RetrievedExample as RetrievedExample
    from sentikit.metrics import Metric as Metric
    from sentikit.processes.commands import joined_processes as joined_processes
    from sentikit.processes.commands import launch_processes as launch_processes
    from sentikit.processes.commands import typed_command as typed_command
    from sentikit.reports.figures import save_plots as save_plots
    from sentikit.reports.page import write_report as write_report
    from sentikit.runs.reading import read_run as read_run
    from sentikit.runs.result_format import ResultColumns as ResultColumns
    from sentikit.runs.result_format import ResultFormat as ResultFormat
    from sentikit.runs.table import Labelling as Labelling
    from sentikit.runs.table import RunTable as RunTable
    from sentikit.stopping import Interrupted as Interrupted
    from sentikit.stopping import stop_on_signal as stop_on_signal
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
    from sentikit.weights import load_pretrained as load_pretrained
    from sentikit.weights import read_weights as read_weights
    from sentikit.weights import refuse_foreign_code as refuse_foreign_code
    from sentikit.weights import write_weights as write_weights

__version__ = "0.1.0"

_LAZY: dict[str, str] = {
    "Answer": "sentikit.llm.backend",
    "BackendError": "sentikit.llm.backend",
    "BackendSession": "sentikit.llm.backend",
    "BatchBackend": "sentikit.llm.backend",
    "BatchLimits": "sentikit.classifiers.batches",
    "BatchStatus": "sentikit.llm.backend",
    "ChatRequest": "sentikit.llm.backend",
    "Classifier": "sentikit.classifiers.classifier",
    "Comparison": "sentikit.comparison.results",
    "DatasetLoader": "sentikit.datasets.opening",
    "DistributedEngine": "sentikit.training.distributed_engine",
    "Encoder": "sentikit.classifiers.encoder",
    "EncoderClassifier": "sentikit.classifiers.encoder_classifier",
    "Example": "sentikit.classifiers.classifier",
    "Session": "sentikit.classifiers.classifier",
    "Engine": "sentikit.training.engine",
    "Examples": "sentikit.datasets.examples",
    "ExamplesBuilder": "sentikit.datasets.examples",
    "ExamplesNeeded": "sentikit.llm.strategy",
    "ExportSource": "sentikit.classifiers.model_format",
    "FatalError": "sentikit.llm.backend",
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
    "Head": "sentikit.classifiers.head",
    "Interrupted": "sentikit.stopping",
    "LLMBackend": "sentikit.llm.backend",
    "Labelled": "sentikit.training.trainer",
    "LLMCall": "sentikit.tracking",
    "Labelling": "sentikit.runs.table",
    "Lesson": "sentikit.training.fitting",
    "LoopSettings": "sentikit.training.settings",
    "Message": "sentikit.llm.messages",
    "MicroBatch": "sentikit.training.batches",
    "MemoryNeed": "sentikit.training.memory",
    "ModelFormat": "sentikit.classifiers.model_format",
    "ModelSize": "sentikit.training.memory",
    "Needs": "sentikit.llm.strategy",
    "OpenedDataset": "sentikit.datasets.opening",
    "Opinion": "sentikit.llm.strategy",
    "ParameterGroup": "sentikit.training.parameter_groups",
    "LabelScheme": "sentikit.datasets.labels",
    "Metric": "sentikit.metrics",
    "Part": "sentikit.components",
    "PluginClassifier": "sentikit.classifiers.plugin_classifier",
    "predictions": "sentikit.classifiers.prediction",
    "PartSettings": "sentikit.components",
    "Prediction": "sentikit.classifiers.prediction",
    "Predictor": "sentikit.classifiers.encoder_classifier",
    "PreparedReport": "sentikit.finetuning.preparing",
    "PretrainedSource": "sentikit.classifiers.pretrained",
    "PromptInput": "sentikit.llm.strategy",
    "PromptStrategy": "sentikit.llm.strategy",
    "RateLimit": "sentikit.llm.backend",
    "Register": "sentikit.hookspecs",
    "RejectedError": "sentikit.llm.backend",
    "ResultColumns": "sentikit.runs.result_format",
    "ResultFormat": "sentikit.runs.result_format",
    "RetrievedExample": "sentikit.llm.strategy",
    "RetryableError": "sentikit.llm.backend",
    "Rows": "sentikit.datasets.tables",
    "RunTable": "sentikit.runs.table",
    "SentimentModel": "sentikit.classifiers.torch_model",
    "StepPlan": "sentikit.training.engine",
    "TorchPredictor": "sentikit.classifiers.torch_model",
    "TrackedRun": "sentikit.tracking",
    "Tracker": "sentikit.tracking",
    "Usage": "sentikit.classifiers.prediction",
    "autocast": "sentikit.devices",
    "cascade": "sentikit.ensembles.recorded",
    "choose_device": "sentikit.devices",
    "choose_precision": "sentikit.devices",
    "compare": "sentikit.comparison.comparison",
    "compare_cascade": "sentikit.ensembles.recorded",
    "disk_errors": "sentikit.files",
    "export_model": "sentikit.classifiers.exporting",
    "find_key": "sentikit.keys",
    "fit": "sentikit.training.fitting",
    "flat_numbers": "sentikit.tracking",
    "folder_writer": "sentikit.files",
    "hub_splits": "sentikit.datasets.hub",
    "joined_processes": "sentikit.processes.commands",
    "key_source": "sentikit.keys",
    "launch_processes": "sentikit.processes.commands",
    "hub_answers": "sentikit.classifiers.pretrained",
    "load": "sentikit.classifiers.loading",
    "load_from_hub": "sentikit.datasets.hub",
    "load_pretrained": "sentikit.weights",
    "open_dataset": "sentikit.datasets.opening",
    "open_fine_tuning": "sentikit.finetuning.job",
    "read_json": "sentikit.files",
    "read_rows": "sentikit.datasets.tables",
    "read_run": "sentikit.runs.reading",
    "read_weights": "sentikit.weights",
    "refuse_foreign_code": "sentikit.weights",
    "replicated": "sentikit.training.memory",
    "scheme_for_classes": "sentikit.datasets.labels",
    "save_plots": "sentikit.reports.figures",
    "set_weights": "sentikit.classifiers.model_folder",
    "stop_on_signal": "sentikit.stopping",
    "typed_command": "sentikit.processes.commands",
    "may_hold_a_key": "sentikit.addresses",
    "parsed_address": "sentikit.addresses",
    "usd_text": "sentikit.amounts",
    "vote": "sentikit.ensembles.recorded",
    "without_secrets": "sentikit.keys",
    "write_json": "sentikit.files",
    "write_report": "sentikit.reports.page",
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
