"""What plugin authors need, by hook; a name is imported when it is first used."""

# Every hook
from sentikit.hookspecs import Register as Register
from sentikit.components import Component as Component, ComponentSettings as ComponentSettings
from sentikit.components import validate as validate, open_component as open_component
from sentikit.recipe_checks import core_keys as core_keys
from sentikit.errors import did_you_mean as did_you_mean, quoted as quoted
from sentikit.errors import unknown_name as unknown_name
from sentikit.files import disk_errors as disk_errors, first_line as first_line
from sentikit.files import folder_writer as folder_writer, read_json as read_json
from sentikit.files import refuse_overlap as refuse_overlap, write_json as write_json
from sentikit.keys import redacted as redacted, find_key as find_key, key_names as key_names
from sentikit.keys import without_secrets as without_secrets, may_hold_a_key as may_hold_a_key
from sentikit.keys import parsed_address as parsed_address

# register_datasets
from sentikit.datasets.opening import OpenedDataset as OpenedDataset, DatasetLoader as DatasetLoader
from sentikit.datasets.opening import with_path as with_path
from sentikit.datasets.examples import ExamplesBuilder as ExamplesBuilder
from sentikit.datasets.examples import text_hashes as text_hashes
from sentikit.datasets.rows import RecordRows as RecordRows, Rows as Rows
from sentikit.datasets.rows import find_column as find_column
from sentikit.datasets.tables import read_rows as read_rows
from sentikit.datasets.tables import known_table_format as known_table_format

# register_table_formats
from sentikit.datasets.rows import TableFormat as TableFormat, cell_text as cell_text
from sentikit.datasets.json_lines import ObjectRows as ObjectRows
from sentikit.datasets.text_files import decoded_lines as decoded_lines, open_binary as open_binary
from sentikit.datasets.text_files import reading_errors as reading_errors

# register_encoders
from sentikit.classifiers.encoder import Encoder as Encoder, PretrainedSource as PretrainedSource
from sentikit.classifiers.hub import hub_answers as hub_answers, hub_refusal as hub_refusal

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
from sentikit.classifiers.batches import BatchLimits as BatchLimits, FastTokenizer as FastTokenizer
from sentikit.datasets.labels import SCHEMES as SCHEMES, label_scheme as label_scheme
from sentikit.datasets.labels import scheme_for_classes as scheme_for_classes
from sentikit.classifiers.encoder import most_positions as most_positions
from sentikit.classifiers.model_folder import set_weights as set_weights
from sentikit.weights import read_weights as read_weights, write_weights as write_weights
from sentikit.weights import load_pretrained as load_pretrained
from sentikit.weights import refuse_foreign_code as refuse_foreign_code
from sentikit.weights import refuse_impossible_sizes as refuse_impossible_sizes
from sentikit.devices import choose_device as choose_device, choose_precision as choose_precision

# register_llm_backends
from sentikit.chat import Usage as Usage, ChatRequest as ChatRequest, Answer as Answer
from sentikit.chat import Message as Message, RateLimit as RateLimit
from sentikit.llm.backend import LLMBackend as LLMBackend, BackendSession as BackendSession
from sentikit.llm.backend import answer_problem as answer_problem, BackendError as BackendError
from sentikit.llm.backend import FatalError as FatalError, RejectedError as RejectedError
from sentikit.llm.backend import RetryableError as RetryableError, BatchBackend as BatchBackend
from sentikit.llm.backend import BatchStatus as BatchStatus
from sentikit.llm.prices import listed_models as listed_models, model_facts as model_facts

# register_llm_backends, fine-tuning
from sentikit.finetuning.recipe import fine_tuner_of as fine_tuner_of
from sentikit.finetuning.recipe import FinetuneComponents as FinetuneComponents
from sentikit.finetuning.recipe import open_finetune_recipe as open_finetune_recipe
from sentikit.finetuning.fine_tuner import FineTuner as FineTuner
from sentikit.finetuning.fine_tuner import FineTuningSession as FineTuningSession
from sentikit.finetuning.fine_tuner import FineTuningJob as FineTuningJob
from sentikit.finetuning.fine_tuner import FineTuningLimits as FineTuningLimits
from sentikit.finetuning.fine_tuner import FineTunedModel as FineTunedModel
from sentikit.llm.prices import TokenCounter as TokenCounter, ModelFacts as ModelFacts
from sentikit.datasets.examples import canonical_text as canonical_text
from sentikit.training.task import TrainingPlace as TrainingPlace, TrainingTask as TrainingTask
from sentikit.training.task import fit as fit
from sentikit.training.data import Labelled as Labelled

# register_prompt_strategies
from sentikit.llm.strategy import PromptStrategy as PromptStrategy, PromptInput as PromptInput
from sentikit.llm.strategy import Needs as Needs, ExamplesNeeded as ExamplesNeeded
from sentikit.llm.strategy import RetrievedExample as RetrievedExample

# register_engines
from sentikit.training.engine import Engine as Engine, DistributedEngine as DistributedEngine
from sentikit.training.engine import EngineWrapper as EngineWrapper, StepPlan as StepPlan
from sentikit.training.engine import MemoryNeed as MemoryNeed, ModelSize as ModelSize
from sentikit.training.engine import replicated as replicated
from sentikit.training.data import MicroBatch as MicroBatch
from sentikit.training.model import ParameterGroup as ParameterGroup
from sentikit.training.settings import LoopSettings as LoopSettings
from sentikit.devices import find_hardware as find_hardware, Hardware as Hardware
from sentikit.devices import autocast as autocast
from sentikit.processes.group import joined_processes as joined_processes
from sentikit.processes.launching import launch_processes as launch_processes
from sentikit.processes.launching import resumable as resumable, typed_command as typed_command

# register_trackers
from sentikit.tracking import Tracker as Tracker, TrackedRun as TrackedRun, LLMCall as LLMCall
from sentikit.tracking import flat_numbers as flat_numbers

# register_result_formats
from sentikit.runs.reading import ResultFormat as ResultFormat, ResultColumns as ResultColumns

# register_metrics
from sentikit.metrics import Metric as Metric, NamedMetric as NamedMetric

# register_reports
from sentikit.reports import ReportFormat as ReportFormat, Section as Section
from sentikit.assurance.estimates import Estimates as Estimates, LabelledTable as LabelledTable
from sentikit.comparison.alignment import AlignedRuns as AlignedRuns
from sentikit.comparison.results import BreakEven as BreakEven, Difference as Difference
from sentikit.comparison.results import RunFindings as RunFindings
from sentikit.ensembles.cascade import CurvePoint as CurvePoint, JudgedCascade as JudgedCascade

# register_commands
from sentikit.stopping import Interrupted as Interrupted, stop_on_signal as stop_on_signal
from sentikit.training.job import TrainedRun as TrainedRun
from sentikit.runs.writer import FinishedRun as FinishedRun, RunPlan as RunPlan
from sentikit.runs.writer import RunWriter as RunWriter
from sentikit.runs.table import RunTable as RunTable, Labelling as Labelling
from sentikit.runs.folder import LabelledSplit as LabelledSplit, RunFolder as RunFolder
from sentikit.runs.folder import choose_run_folder as choose_run_folder, versions as versions
from sentikit.runs.listing import find_runs as find_runs, read_summary as read_summary
from sentikit.runs.reporter import RunReporter as RunReporter
from sentikit.command_options import FiniteRange as FiniteRange, FILE as FILE, RATE as RATE
from sentikit.command_options import RECIPE as RECIPE, SETTINGS as SETTINGS, OUTPUT as OUTPUT
from sentikit.command_options import TEXT_COLUMNS as TEXT_COLUMNS, input_file as input_file
from sentikit.command_options import DEVICE as DEVICE, THREADS as THREADS, REVISION as REVISION
from sentikit.command_options import LABEL_MAP as LABEL_MAP, ESTIMATE as ESTIMATE
from sentikit.command_options import MAX_COST as MAX_COST, RESUME as RESUME
from sentikit.command_options import label_map_of as label_map_of
from sentikit.command_options import complete_classifier as complete_classifier
from sentikit.command_options import complete_recipe as complete_recipe
from sentikit.command_options import complete_column as complete_column
from sentikit.terminal import print_scores as print_scores
from sentikit.terminal import LiveBar as LiveBar, print_table as print_table
from sentikit.terminal import print_text as print_text, usd_text as usd_text
from sentikit.terminal import working_on as working_on
from sentikit.devices import set_threads as set_threads
from sentikit.llm.session import RequestSession as RequestSession, spent_usd as spent_usd
from sentikit.llm.settings import Limits as Limits
from sentikit.classifiers.loading import LoadingOptions as LoadingOptions
from sentikit.labelling.loading import FoundClassifier as FoundClassifier
from sentikit.labelling.loading import find_classifier as find_classifier
from sentikit.labelling.rows import LabellingOptions as LabellingOptions
from sentikit.labelling.table_writer import open_table as open_table, refuse_taken as refuse_taken
from sentikit.labelling.table_writer import written_kind as written_kind
from sentikit.labelling.table_writer import AddedColumns as AddedColumns, TableWriter as TableWriter
from sentikit.labelling.table_writer import without_formula as without_formula
from sentikit.labelling.summary import TableSummary as TableSummary, encoders as encoders
from sentikit.files import atomic_writer as atomic_writer
from sentikit.recipe.resolving import parse_dataset_overrides as parse_dataset_overrides
from sentikit.recipe.resolving import list_recipes as list_recipes, recipe_text as recipe_text
from sentikit.recipe.resolving import resolve_recipe as resolve_recipe
from sentikit.llm.requests.budget import BudgetSpentError as BudgetSpentError
from sentikit.recipe_checks import recipe_problems as recipe_problems

# What examines plugins
from sentikit.registry import Registry as Registry, PluginReport as PluginReport
from sentikit.registry import default_registry as default_registry
from sentikit.registry import disabled_plugins as disabled_plugins
from sentikit.plugin_sources import PluginSource as PluginSource
from sentikit.plugin_sources import installed_plugins as installed_plugins
from sentikit.registration import Registration as Registration
from sentikit.datasets.tables import InputFile as InputFile

# register_commands, texts that people check
from sentikit.assurance.estimates import confidence_strata as confidence_strata, Labels as Labels
from sentikit.labelling.file_job import FileRows as FileRows, cache_of as cache_of
from sentikit.labelling.job import label_rows as label_rows, say_estimate as say_estimate
from sentikit.llm.prices import usd as usd
from sentikit.llm.requests.progress import RequestReporter as RequestReporter
from sentikit.runs.writer import Row as Row
from sentikit.comparison.significance import holm as holm
from sentikit.reports import format_for as format_for, report_format as report_format
