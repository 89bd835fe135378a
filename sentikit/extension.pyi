"""What plugin authors need, by hook: one line a name, imported when it is first used."""

# Every hook
from sentikit.hookspecs import Register as Register
from sentikit.components import Component as Component
from sentikit.components import ComponentSettings as ComponentSettings
from sentikit.components import validate as validate
from sentikit.recipe_checks import core_keys as core_keys
from sentikit.components import open_component as open_component
from sentikit.errors import did_you_mean as did_you_mean
from sentikit.errors import quoted as quoted
from sentikit.errors import unknown_name as unknown_name
from sentikit.files import disk_errors as disk_errors
from sentikit.files import first_line as first_line
from sentikit.files import folder_writer as folder_writer
from sentikit.files import read_json as read_json
from sentikit.files import refuse_overlap as refuse_overlap
from sentikit.files import write_json as write_json
from sentikit.keys import redacted as redacted
from sentikit.keys import find_key as find_key
from sentikit.keys import key_names as key_names
from sentikit.keys import key_source as key_source
from sentikit.keys import without_secrets as without_secrets
from sentikit.keys import may_hold_a_key as may_hold_a_key
from sentikit.keys import parsed_address as parsed_address

# register_datasets
from sentikit.datasets.opening import OpenedDataset as OpenedDataset
from sentikit.datasets.opening import DatasetLoader as DatasetLoader
from sentikit.datasets.examples import ExamplesBuilder as ExamplesBuilder
from sentikit.datasets.rows import RecordRows as RecordRows
from sentikit.datasets.rows import Rows as Rows
from sentikit.datasets.rows import find_column as find_column
from sentikit.datasets.tables import read_rows as read_rows
from sentikit.datasets.tables import known_table_format as known_table_format
from sentikit.datasets.examples import text_hashes as text_hashes
from sentikit.datasets.opening import with_path as with_path

# register_table_formats
from sentikit.datasets.rows import TableFormat as TableFormat
from sentikit.datasets.rows import cell_text as cell_text
from sentikit.datasets.json_lines import ObjectRows as ObjectRows
from sentikit.datasets.text_files import decoded_lines as decoded_lines
from sentikit.datasets.text_files import open_binary as open_binary
from sentikit.datasets.text_files import reading_errors as reading_errors

# register_encoders
from sentikit.classifiers.encoder import Encoder as Encoder
from sentikit.classifiers.encoder import PretrainedSource as PretrainedSource
from sentikit.classifiers.hub import hub_answers as hub_answers
from sentikit.classifiers.hub import hub_refusal as hub_refusal

# register_heads
from sentikit.classifiers.encoder import Head as Head

# register_classifiers
from sentikit.classifiers.loading import HubClassifier as HubClassifier
from sentikit.classifiers.plugin_classifier import CheckedClassifier as CheckedClassifier
from sentikit.classifiers.plugin_classifier import PluginClassifier as PluginClassifier
from sentikit.classifiers.classifier import Session as Session
from sentikit.classifiers.prediction import predictions as predictions

# register_formats
from sentikit.classifiers.model_format import ModelFormat as ModelFormat
from sentikit.classifiers.model_format import ExportSource as ExportSource
from sentikit.classifiers.encoder_classifier import EncoderClassifier as EncoderClassifier
from sentikit.classifiers.encoder_classifier import Predictor as Predictor
from sentikit.classifiers.torch_model import TorchPredictor as TorchPredictor
from sentikit.classifiers.torch_model import SentimentModel as SentimentModel
from sentikit.classifiers.batches import BatchLimits as BatchLimits
from sentikit.datasets.labels import SCHEMES as SCHEMES
from sentikit.classifiers.batches import FastTokenizer as FastTokenizer
from sentikit.classifiers.encoder import most_positions as most_positions
from sentikit.datasets.labels import label_scheme as label_scheme
from sentikit.datasets.labels import scheme_for_classes as scheme_for_classes
from sentikit.classifiers.model_folder import set_weights as set_weights
from sentikit.weights import read_weights as read_weights
from sentikit.weights import write_weights as write_weights
from sentikit.weights import load_pretrained as load_pretrained
from sentikit.weights import refuse_foreign_code as refuse_foreign_code
from sentikit.weights import refuse_impossible_sizes as refuse_impossible_sizes
from sentikit.devices import choose_device as choose_device
from sentikit.devices import choose_precision as choose_precision
from sentikit.devices import cpu_threads as cpu_threads

# register_llm_backends
from sentikit.classifiers.prediction import Usage as Usage
from sentikit.llm.backend import LLMBackend as LLMBackend
from sentikit.llm.backend import BackendSession as BackendSession
from sentikit.llm.backend import ChatRequest as ChatRequest
from sentikit.llm.backend import Answer as Answer
from sentikit.llm.backend import answer_problem as answer_problem
from sentikit.llm.strategy import Message as Message
from sentikit.llm.backend import BackendError as BackendError
from sentikit.llm.backend import FatalError as FatalError
from sentikit.llm.backend import RateLimit as RateLimit
from sentikit.llm.backend import RejectedError as RejectedError
from sentikit.llm.backend import RetryableError as RetryableError
from sentikit.llm.backend import BatchBackend as BatchBackend
from sentikit.llm.backend import BatchStatus as BatchStatus
from sentikit.llm.prices import listed_models as listed_models
from sentikit.llm.prices import model_facts as model_facts

# register_llm_backends, fine-tuning
from sentikit.finetuning.recipe import fine_tuner_of as fine_tuner_of
from sentikit.finetuning.fine_tuner import FineTuner as FineTuner
from sentikit.finetuning.fine_tuner import FineTuningSession as FineTuningSession
from sentikit.finetuning.fine_tuner import FineTuningJob as FineTuningJob
from sentikit.finetuning.fine_tuner import FineTuningLimits as FineTuningLimits
from sentikit.finetuning.fine_tuner import FineTunedModel as FineTunedModel
from sentikit.finetuning.recipe import FinetuneComponents as FinetuneComponents
from sentikit.finetuning.recipe import open_finetune_recipe as open_finetune_recipe
from sentikit.llm.prices import TokenCounter as TokenCounter
from sentikit.llm.prices import ModelFacts as ModelFacts
from sentikit.llm.strategy import training_line as training_line
from sentikit.datasets.examples import canonical_text as canonical_text
from sentikit.training.trainer import TrainingPlace as TrainingPlace
from sentikit.training.trainer import TrainingTask as TrainingTask
from sentikit.training.data import Labelled as Labelled
from sentikit.training.trainer import fit as fit

# register_prompt_strategies
from sentikit.llm.strategy import PromptStrategy as PromptStrategy
from sentikit.llm.strategy import PromptInput as PromptInput
from sentikit.llm.strategy import Needs as Needs
from sentikit.llm.strategy import ExamplesNeeded as ExamplesNeeded
from sentikit.llm.strategy import RetrievedExample as RetrievedExample

# register_engines
from sentikit.training.engine import Engine as Engine
from sentikit.training.engine import DistributedEngine as DistributedEngine
from sentikit.training.engine import EngineWrapper as EngineWrapper
from sentikit.training.engine import StepPlan as StepPlan
from sentikit.training.data import MicroBatch as MicroBatch
from sentikit.training.parameters import ParameterGroup as ParameterGroup
from sentikit.training.settings import LoopSettings as LoopSettings
from sentikit.devices import find_hardware as find_hardware
from sentikit.devices import Hardware as Hardware
from sentikit.training.engine import MemoryNeed as MemoryNeed
from sentikit.training.engine import ModelSize as ModelSize
from sentikit.training.engine import replicated as replicated
from sentikit.devices import autocast as autocast
from sentikit.processes.group import joined_processes as joined_processes
from sentikit.processes.launching import launch_processes as launch_processes
from sentikit.processes.launching import resumable as resumable
from sentikit.processes.launching import typed_command as typed_command

# register_trackers
from sentikit.tracking import Tracker as Tracker
from sentikit.tracking import TrackedRun as TrackedRun
from sentikit.tracking import LLMCall as LLMCall
from sentikit.tracking import flat_numbers as flat_numbers

# register_result_formats
from sentikit.runs.reading import ResultFormat as ResultFormat
from sentikit.runs.reading import ResultColumns as ResultColumns

# register_metrics
from sentikit.metrics import Metric as Metric
from sentikit.metrics import NamedMetric as NamedMetric

# register_reports
from sentikit.reports import ReportFormat as ReportFormat
from sentikit.reports import Section as Section
from sentikit.assurance.estimates import Estimates as Estimates
from sentikit.assurance.estimates import LabelledTable as LabelledTable
from sentikit.comparison.alignment import AlignedRuns as AlignedRuns
from sentikit.comparison.results import BreakEven as BreakEven
from sentikit.comparison.results import Difference as Difference
from sentikit.comparison.results import RunFindings as RunFindings
from sentikit.ensembles.cascade import CurvePoint as CurvePoint
from sentikit.ensembles.cascade import JudgedCascade as JudgedCascade

# register_commands
from sentikit.stopping import Interrupted as Interrupted
from sentikit.training.job import TrainedRun as TrainedRun
from sentikit.runs.writer import FinishedRun as FinishedRun
from sentikit.runs.table import RunTable as RunTable
from sentikit.runs.table import Labelling as Labelling
from sentikit.runs.folder import LabelledSplit as LabelledSplit
from sentikit.runs.folder import RunFolder as RunFolder
from sentikit.runs.folder import choose_run_folder as choose_run_folder
from sentikit.runs.reporter import RunReporter as RunReporter
from sentikit.runs.writer import RunPlan as RunPlan
from sentikit.runs.writer import RunWriter as RunWriter
from sentikit.command_options import FiniteRange as FiniteRange
from sentikit.command_options import FILE as FILE
from sentikit.command_options import RATE as RATE
from sentikit.command_options import RECIPE as RECIPE
from sentikit.command_options import SETTINGS as SETTINGS
from sentikit.command_options import OUTPUT as OUTPUT
from sentikit.command_options import TEXT_COLUMNS as TEXT_COLUMNS
from sentikit.command_options import input_file as input_file
from sentikit.command_options import DEVICE as DEVICE
from sentikit.command_options import THREADS as THREADS
from sentikit.command_options import REVISION as REVISION
from sentikit.command_options import LABEL_MAP as LABEL_MAP
from sentikit.command_options import ESTIMATE as ESTIMATE
from sentikit.command_options import MAX_COST as MAX_COST
from sentikit.command_options import RESUME as RESUME
from sentikit.terminal import LiveBar as LiveBar
from sentikit.command_options import label_map_of as label_map_of
from sentikit.command_options import complete_classifier as complete_classifier
from sentikit.command_options import complete_recipe as complete_recipe
from sentikit.command_options import complete_column as complete_column
from sentikit.terminal import print_table as print_table
from sentikit.terminal import print_text as print_text
from sentikit.stopping import stop_on_signal as stop_on_signal
from sentikit.terminal import usd_text as usd_text
from sentikit.terminal import working_on as working_on
from sentikit.devices import set_threads as set_threads
from sentikit.llm.session import RequestSession as RequestSession
from sentikit.llm.settings import Limits as Limits
from sentikit.classifiers.loading import LoadingOptions as LoadingOptions
from sentikit.labelling.loading import FoundClassifier as FoundClassifier
from sentikit.labelling.loading import find_classifier as find_classifier
from sentikit.labelling.rows import LabellingOptions as LabellingOptions
from sentikit.labelling.table_writer import open_table as open_table
from sentikit.labelling.table_writer import refuse_taken as refuse_taken
from sentikit.labelling.table_writer import written_kind as written_kind
from sentikit.llm.session import spent_usd as spent_usd
from sentikit.labelling.summary import TableSummary as TableSummary
from sentikit.labelling.summary import encoders as encoders
from sentikit.labelling.table_writer import AddedColumns as AddedColumns
from sentikit.labelling.table_writer import TableWriter as TableWriter
from sentikit.labelling.table_writer import without_formula as without_formula
from sentikit.files import atomic_writer as atomic_writer
from sentikit.recipe.resolving import parse_dataset_overrides as parse_dataset_overrides
from sentikit.llm.requests.budget import BudgetSpentError as BudgetSpentError
from sentikit.recipe.resolving import resolve_recipe as resolve_recipe
from sentikit.recipe_checks import recipe_problems as recipe_problems
from sentikit.runs.folder import versions as versions

# What examines plugins
from sentikit.registry import Registry as Registry
from sentikit.registry import PluginReport as PluginReport
from sentikit.plugin_sources import PluginSource as PluginSource
from sentikit.registration import Registration as Registration
from sentikit.registry import default_registry as default_registry
from sentikit.registry import disabled_plugins as disabled_plugins
from sentikit.plugin_sources import installed_plugins as installed_plugins
from sentikit.datasets.tables import InputFile as InputFile

# register_commands, texts that people check
from sentikit.assurance.estimates import confidence_strata as confidence_strata
from sentikit.labelling.file_job import FileRows as FileRows
from sentikit.labelling.file_job import cache_of as cache_of
from sentikit.labelling.job import label_rows as label_rows
from sentikit.labelling.job import say_estimate as say_estimate
from sentikit.llm.prices import usd as usd
from sentikit.llm.requests.progress import RequestReporter as RequestReporter
from sentikit.runs.writer import Row as Row
from sentikit.assurance.estimates import Labels as Labels
from sentikit.comparison.significance import holm as holm
from sentikit.reports import format_for as format_for
from sentikit.reports import report_format as report_format
from sentikit.reports import write_estimates_report as write_estimates_report
