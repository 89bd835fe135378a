"""What programs call; a name is imported when it is first used."""

# Classifiers
from sentikit.labelling.loading import load as load
from sentikit.classifiers.classifier import Classifier as Classifier, Example as Example
from sentikit.classifiers.prediction import Prediction as Prediction
from sentikit.classifiers.loading import export_model as export_model

# Training
from sentikit.training.estimator import train as train, SentimentClassifier as SentimentClassifier

# Data
from sentikit.datasets.opening import open_dataset as open_dataset
from sentikit.datasets.examples import Examples as Examples
from sentikit.datasets.labels import LabelScheme as LabelScheme

# Runs, comparison and reports
from sentikit.labelling.evaluation import evaluate as evaluate
from sentikit.labelling.prompting import prompt as prompt
from sentikit.runs.reading import read_run as read_run
from sentikit.comparison.comparison import compare as compare
from sentikit.comparison.judgement import Comparison as Comparison
from sentikit.ensembles.cascade import cascade as cascade, compare_cascade as compare_cascade
from sentikit.ensembles.vote import vote as vote
from sentikit.reports import write_report as write_report, save_plots as save_plots

# Labels one can defend
from sentikit.assurance.certificates import certify as certify
from sentikit.assurance.certificates import certify_agreement as certify_agreement
from sentikit.assurance.certificates import Certificate as Certificate, Monitor as Monitor
from sentikit.assurance.estimates import estimate_shares as estimate_shares
from sentikit.assurance.estimates import estimate_accuracy as estimate_accuracy
from sentikit.assurance.estimates import Estimate as Estimate

# Errors
from sentikit.errors import SentikitError as SentikitError, InputError as InputError

# Plugins
from sentikit.hookspecs import hookimpl as hookimpl

__version__: str
