"""The format ``onnx``: a folder that ONNX Runtime runs, without torch weights.

::

    config.json        classes, max_length, threshold, temperature
    model.onnx         fp32: ids and mask to logits
    model.int8.onnx    with --int8: equalised, quantised dynamically, weights per channel
    tokenizer.json …   the tokenizer
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    EncoderClassifier,
    ExportSource,
    FastTokenizer,
    ModelFormat,
    scheme_for_classes,
    write_json,
)

from .config import (
    CONFIG,
    GRAPH,
    QUANTISED_GRAPH,
    OnnxConfig,
    is_of_format,
    read_config,
)


class OnnxFormat(ModelFormat):
    """The format ``onnx``."""

    class Settings(ComponentSettings):
        """Options of ``sentikit export --format onnx``."""

        int8: bool = Field(
            False, description="add model.int8.onnx: a quarter of the size, and faster"
        )

    settings: Settings

    def recognises(self, folder: Path) -> bool:
        """Return whether the folder has a graph, and a ``config.json`` that names the classes."""
        return is_of_format(folder)

    def load(self, folder: Path, device: str, precision: str) -> EncoderClassifier:
        """Load a folder of `export`, or a text classifier that another program exported."""
        from .runtime import OnnxPredictor

        config = read_config(folder)
        path, precision = _graph_for(folder, precision)
        predictor = OnnxPredictor(path, device, precision)
        if predictor.width != len(config.classes):
            raise InputError(
                f"{folder / CONFIG} names {len(config.classes)} classes, but {path.name} has "
                f"{predictor.width} logits."
            )
        tokenizer = FastTokenizer(folder)
        longest = min(tokenizer.longest, config.max_position_embeddings or 512)
        return EncoderClassifier(
            predictor,
            tokenizer,
            scheme_for_classes(config.classes, config.threshold, config.ordered),
            min(config.max_length or longest, longest),
            config.temperature,
        )

    def export(self, source: ExportSource, folder: Path) -> list[str]:
        """Write the graphs and compare their labels with the torch model's.

        Raises:
            SentikitError: the exporter does not support the encoder, or the labels differ.
        """
        from .checking import batches_of, check_graph, count_changes, sample_texts
        from .graph import write_graph
        from .quantisation import write_quantised_graph
        from .requirement import needed

        needed("onnxruntime")
        classifier, model = source.classifier, source.module
        encoder: Any = model.encoder
        config = OnnxConfig(
            id2label=dict(enumerate(classifier.labels)),
            model_type=encoder.config.model_type,
            max_position_embeddings=getattr(encoder.config, "max_position_embeddings", None),
            max_length=classifier.max_length,
            ordered=classifier.scheme.ordered,
            threshold=classifier.scheme.threshold,
            temperature=classifier.temperature,
        )
        write_json(folder / CONFIG, config.to_json())
        classifier.tokenizer.save_pretrained(folder)
        write_graph(model, folder / GRAPH)
        texts = sample_texts(source)
        remarks = [check_graph(classifier, self.load(folder, "cpu", "fp32"), texts)]
        if self.settings.int8:
            typical = batches_of(classifier, texts)
            write_quantised_graph(folder / GRAPH, folder / QUANTISED_GRAPH, typical)
            remarks.append(count_changes(classifier, self.load(folder, "cpu", "int8"), texts))
        return remarks


def _graph_for(folder: Path, precision: str) -> tuple[Path, str]:
    """Return the graph to run and its precision; ``auto`` prefers fp32."""
    graphs = {"fp32": folder / GRAPH, "int8": folder / QUANTISED_GRAPH}
    present = {name: path for name, path in graphs.items() if path.is_file()}
    chosen = next(iter(present)) if precision == "auto" else precision
    if chosen in present:
        return present[chosen], chosen
    raise InputError(
        f"{folder} has no {precision} graph; it has {' and '.join(present)}. "
        "An int8 graph is made by: sentikit export MODEL DIR --format onnx --int8"
    )
