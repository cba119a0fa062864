"""One run of setfit, as a process of its own environment: a JSON object in, a JSON object out.

In: ``model`` (folder of a sentence encoder), ``train`` and ``test`` (lists of [text, label number]),
``pairs`` (pairs a text), ``batch``. Out: ``answers`` (label numbers of the test texts), ``train_seconds``,
``test_seconds``, ``versions``. Imports nothing of this project.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    logging.disable(logging.WARNING)
    from datasets import Dataset, disable_progress_bars
    from setfit import SetFitModel, Trainer, TrainingArguments

    disable_progress_bars()
    texts, labels = zip(*given["train"], strict=True)
    data = Dataset.from_dict({"text": list(texts), "label": list(labels)})
    model = SetFitModel.from_pretrained(given["model"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=given["batch"],
            num_epochs=1,
            num_iterations=given["pairs"],
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
            seed=0,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=data)
        started = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
    answers = model.predict([text for text, _ in given["test"]])
    done = {
        "answers": [int(answer) for answer in answers],
        "train_seconds": trained - started,
        "test_seconds": time.perf_counter() - trained,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("setfit", "sentence-transformers", "torch", "transformers")
        },
    }
    Path(sys.argv[2]).write_text(json.dumps(done), "utf-8")


if __name__ == "__main__":
    main()
